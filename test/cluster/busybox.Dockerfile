FROM debian:bookworm-slim AS packages
RUN apt-get update && apt-get install --yes --no-install-recommends busybox-static

FROM scratch
COPY --from=packages /usr/bin/busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
CMD ["sleep", "2147483647"]
