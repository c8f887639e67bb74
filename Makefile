# Every target installs what it needs (apt, npm); see "make help".
SHELL := /bin/bash
HOST := $(if $(filter aarch64,$(shell uname -m)),arm64,x64)
# In its package, as npm 9.2 makes no link to it in node_modules/.bin.
NODE := node_modules/node-linux-$(HOST)/bin/node
ARCH ?= $(HOST)

.DEFAULT_GOAL := help

help: ## Show this help.
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-21s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

node_modules: node_modules/.package-lock.json

# npm writes this file last. What NODE_ENV, or a person's settings, would leave out is needed.
node_modules/.package-lock.json: package.json package-lock.json
	@test/setup.sh npm
	@echo 'Installing packages of npm: about a minute the first time ...'
	@npm ci --no-audit --no-fund --no-update-notifier --loglevel=error --include=dev --include=optional > /dev/null
	@[ -x $(NODE) ] || { echo 'Cannot go on as this machine must be x86_64 or aarch64: npm has no Node.js for it.' >&2; rm $@; exit 1; }

.PHONY: help build image named docker-build-push load release check format kernel guest executable cluster cluster-test test test-long torture conformance run bench screenshots setup clean deploy undeploy create-vg minikube-attach-disk \
	minikube-create-vg gke-create-vg docs proto

setup:
	@test/setup.sh

setup-%:
	@test/setup.sh $*

build: node_modules ## Build dist/elastic-local; ARCH=arm64 cross-builds.
	@ARCH=$(ARCH) $(NODE) build.mjs

image: node_modules ## The container image for amd64 and arm64: dist/image/elastic-local.oci.tar.
	@$(NODE) image/build.ts

named:
	@[ -n "$(IMAGE)" ] || { echo 'Cannot push the image as IMAGE must be registry/name:tag: it is empty.' >&2; exit 1; }

docker-build-push: named image ## Make the image and push it: IMAGE=registry/name:tag.
	@test/setup.sh skopeo:skopeo
	@skopeo copy --all --preserve-digests oci-archive:dist/image/elastic-local.oci.tar docker://$(IMAGE)

load: image ## Bring the image to the nodes of a local cluster: CLUSTER=kind, minikube or k3s; NAME=….
	@config/load.sh

release: node_modules ## What a release consists of, in dist/release: image, executables, chart, SBOMs, checksums, notes.
	@$(NODE) image/release.ts

check: node_modules ## The quick gate: format, lint, types, unit tests.
	@$(NODE) node_modules/.bin/biome check .
	@$(NODE) node_modules/.bin/tsc
	@$(NODE) test/run.ts unit

format: node_modules ## Format the sources and fix what the linter can.
	@$(NODE) node_modules/.bin/biome check --write .

docs: node_modules ## Write docs/reference.md, docs/helm.md and the schema of the chart's values from the code.
	@$(NODE) src/cmd/docs/reference.ts
	@$(NODE) src/cmd/docs/chart.ts

proto: node_modules ## Write the messages of CSI, src/csi/proto/*_pb.ts, from the .proto files there.
	@PATH="$(CURDIR)/$(dir $(NODE)):$$PATH" node_modules/.bin/buf generate --template src/csi/proto/buf.gen.yaml src/csi/proto

kernel: setup-kernel node_modules ## Test pools and mounts on this machine's kernel (root).
	@$(NODE) test/run.ts kernel

executable: setup build ## Test the built executable (root).
	@$(NODE) test/run.ts executable

guest: setup build ## Test on real LVM, in a guest (root).
	@$(NODE) test/run.ts guest

cluster: setup-cluster build ## A real Kubernetes to play with (root); the first time builds it, 10 to 17 minutes. ONCE=1 exits.
	@unshare --mount --propagation private -- $(NODE) test/cluster/play.ts $(if $(ONCE),--once)

cluster-test: setup build ## Test on a real Kubernetes (root); KUBERNETES=v1.34.4 for another version.
	@$(NODE) test/run.ts cluster

test: setup build ## Run what shows that everything works; ends with "N passed, N failed".
	@$(NODE) node_modules/.bin/biome check .
	@$(NODE) node_modules/.bin/tsc
	@$(NODE) test/run.ts unit kernel executable guest cluster

test-long: setup build ## Run every test, with every permutation; hours (root).
	@$(NODE) node_modules/.bin/biome check .
	@$(NODE) node_modules/.bin/tsc
	@LONG=1 $(NODE) test/run.ts unit kernel executable guest cluster long

torture: setup build ## Kill the daemon everywhere, play N times as many histories, cut the power N times (root); SEED=….
	@TORTURE=$(or $(N),1) SEED=$(SEED) $(NODE) test/run.ts torture
	@N=$(or $(N),1) SEED=$(SEED) unshare --mount --propagation private -- $(NODE) test/torture/power.ts

conformance: setup build ## Run Kubernetes' own storage suite (root); an hour, or SLICES=… of test/conformance/slices.ts.
	@test/setup.sh curl:curl openssh-client:ssh-keygen
	@unshare --mount --propagation private -- $(NODE) test/conformance/run.ts $(SLICES)

run: setup-run build ## Play the main job on this machine (root); ONCE=1 cleans up and exits.
	@$(NODE) test/demo.ts $(if $(ONCE),--once)

bench: setup build ## Measure, as ratios (root), all or ONLY=…; see docs/benchmarks.md.
	@$(NODE) bench/run.ts $(ONLY)

deploy: ## Install into the cluster of kubectl's current context; IMAGE=…, FROM=… (docs/install.md).
	@config/deploy.sh

undeploy: ## Remove it there, and say what stays; KEEP_VOLUMES=true leaves volumes and pods on them (docs/uninstall.md).
	@config/undeploy.sh

create-vg: ## Create the volume group on NODES=… (or SELECTOR=…) from DISKS=…, if they are blank (docs/disks.md).
	@config/create-vg.sh

minikube-attach-disk: ## Give a minikube machine (kvm2) a new disk; PROFILE=minikube SIZE=10G.
	@config/minikube-attach-disk.sh

minikube-create-vg: ## Create the volume group on that disk.
	@NODES=$(or $(PROFILE),minikube) DISKS=$(or $(DISKS),/dev/vdb) config/create-vg.sh

gke-create-vg: ## Create the volume group on the local SSDs of all nodes of POOL=….
	@SELECTOR=cloud.google.com/gke-nodepool=$(or $(POOL),$(error Cannot find nodes as POOL must name a node pool)) \
		DISKS='$(or $(DISKS),/dev/disk/by-id/google-local-ssd-block*)' SIZE=$(or $(SIZE),375Gi) config/create-vg.sh

screenshots: setup build ## Write the pictures in docs/images, and of the page into dist/screenshots (root).
	@unshare --mount --propagation private -- $(NODE) test/cluster/screenshots.ts

clean: ## Remove what was built.
	rm -rf dist node_modules
