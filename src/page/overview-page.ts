import type { Overview, ProvisionerRecord, VolumeRecord } from '../overview/records.ts'
import { formatAge, formatBytes, formatCount, formatShare } from '../text/quantity.ts'
import type { Seen } from './cluster-view.ts'
import type { FrameParts } from './frame.ts'
import { type Html, html } from './html.ts'
import {
  allocated,
  bar,
  firstProblem,
  frontNames,
  legend,
  more,
  nodePill,
  pill,
  sizes,
  volumePill,
  words,
} from './parts.ts'
import {
  addRooms,
  findTroubles,
  listNodes,
  type NodeRow,
  pathOfVolume,
  type Rows,
  type Selection,
  select,
  type Trouble,
  titleOfVolume,
  type Wish,
} from './select.ts'

/** The whole cluster, as far as the wish goes. */
export function overviewPage({ overview, failure }: Seen, wish: Wish): Omit<FrameParts, 'version'> {
  const all = findTroubles(overview, listNodes(overview), overview.volumes)
  const selection = select(overview, wish)
  const fails = all.filter(({ status }) => status === 'fail').length
  const health = all.length === 0 ? 'all is well' : fails > 0 ? `${fails} fail` : formatCount(all.length, 'warning')
  return {
    title: `elastic-local: ${health}`,
    at: overview.at,
    json: '/api/overview',
    fixed: form(wish),
    body: html`
${failure !== undefined && lost(failure)}
${notRead(overview)}
${summary(overview, all)}
<div class="results">
${troubles(selection, overview)}
${nodes(selection)}
${volumes(selection, overview.at)}
</div>`,
  }
}

/** Said while what is shown is older than it should be. */
export function lost(failure: string): Html {
  return html`<div class="card note lost" role="status">The cluster cannot be read; this is its last known state. ${failure}</div>`
}

function form({ text, troubled }: Wish): Html {
  return html`<h1 class="unseen">Local volumes of this cluster</h1>
<form class="find" id="find" role="search" action="/" method="get">
<input type="search" name="q" value="${text}" placeholder="Find by claim, pod, node, pool, state or message" aria-label="Find" autocomplete="off" spellcheck="false">
<label><input type="checkbox" name="troubled" value="yes"${troubled && html` checked`}>Problems only</label>
<button>Find</button>
</form>`
}

function notRead({ notRead }: Overview): Html | false {
  if (notRead.length === 0) return false
  return html`<div class="card note"><p><strong>Some of it is not shown</strong>, as the provisioner may not read it; <code>config/kustomize/page/rights.yaml</code> grants the rights.</p><ul class="details">${notRead.map(({ kind, message }) => html`<li>${kind}: ${message}</li>`)}</ul></div>`
}

function summary(overview: Overview, all: readonly Trouble[]): Html {
  const { nodes, volumes, provisioner, pools, at } = overview
  const fails = all.filter(({ status }) => status === 'fail').length
  const warns = all.length - fails
  const counts = [fails > 0 && `${fails} fail`, warns > 0 && formatCount(warns, 'warning')].filter(Boolean)
  const ready = nodes.filter(({ state }) => state === 'ready').length
  const room = addRooms(listNodes(overview))
  const tone = fails > 0 ? 'fail' : warns > 0 ? 'warn' : 'ok'
  return html`<section aria-label="Summary"><dl class="tiles">
${tile('Health', tone, all.length === 0 ? 'Healthy' : formatCount(all.length, 'problem'), counts.join(', ') || 'no problems')}
${tile('Volumes', '', String(volumes.length), countStates(volumes))}
${tile('Nodes', ready < nodes.length ? 'fail' : '', ready < nodes.length ? `${ready} of ${nodes.length}` : String(nodes.length), ready < nodes.length ? 'are ready' : nodes.length > 0 ? 'all ready' : 'none')}
${provisionerTile(provisioner, at)}
<div class="card tile room"><dt>Room in ${formatCount(pools.length, 'pool')}</dt><dd><p class="big">${formatBytes(room.freeBytes)} free</p>${bar(room)}<p class="more">${allocated(room)} of ${formatBytes(room.sizeBytes)} (${formatShare(room.madeBytes + room.pendingBytes, room.sizeBytes)})</p></dd></div>
</dl></section>`
}

function tile(title: string, tone: string, big: string, under: string): Html {
  return html`<div class="card tile"><dt>${title}</dt><dd><p class="big${tone && ` is-${tone}`}">${big}</p><p class="more">${under}</p></dd></div>`
}

function provisionerTile({ leader, renewedAt, pods, readyPods, problems }: ProvisionerRecord, at: Date): Html {
  const heard = renewedAt ? `renewed ${formatAge(renewedAt, at)} ago` : ''
  const counted = pods > 0 ? `${readyPods} of ${formatCount(pods, 'pod')} ready` : ''
  return html`<div class="card tile"><dt>Leader</dt><dd><p class="big name${problems.length > 0 && ' is-fail'}">${leader ?? (problems.length > 0 ? 'none' : 'not known')}</p><p class="more">${[heard, counted].filter(Boolean).join(', ')}</p></dd></div>`
}

/** `21 ready, 2 pending`. */
function countStates(volumes: readonly VolumeRecord[]): string {
  const counts = new Map<string, number>()
  for (const { state } of volumes) counts.set(state, (counts.get(state) ?? 0) + 1)
  const texts = [...counts].sort(([, a], [, b]) => b - a).map(([state, count]) => `${count} ${state}`)
  return texts.join(', ') || 'none yet'
}

/** How many troubles, and how many things that have one, are named. */
const mostTroubles = 20
const mostSubjects = 6

function troubles({ troubles, wish }: Selection, overview: Overview): Html | false {
  if (troubles.length === 0) {
    const isEmpty = overview.volumes.length === 0 && overview.pools.length === 0
    if (wish.text !== '' || wish.troubled || isEmpty) return false
    return html`<section aria-labelledby="troubles"><div class="head"><h2 id="troubles">Problems</h2></div><p class="card well">${pill('ok', 'well')} No problems with nodes, pools and volumes are known.</p></section>`
  }
  const left = troubles.length - mostTroubles
  return html`<section aria-labelledby="troubles"><div class="head"><h2 id="troubles">Problems</h2><span class="quiet">${formatCount(troubles.length, 'problem')}, worst first</span></div>
<ul class="troubles">${troubles.slice(0, mostTroubles).map(trouble)}</ul>
${left > 0 && html`<p class="none">And ${formatCount(left, 'more problem')}: each is with its node or volume below.</p>`}</section>`
}

function trouble({ status, message, subjects, ...rest }: Trouble): Html {
  const named = subjects
    .slice(0, mostSubjects)
    .map(({ text, path }, index) => html`${index > 0 && ', '}${path ? html`<a href="${path}">${text}</a>` : text}`)
  const left = subjects.length - mostSubjects
  return html`<li class="card trouble ${status}"><h3>${pill(status, words[status])}<span>${named}${left > 0 && ` and ${left} more`}</span></h3><p class="says">${message}</p>${more(rest)}</li>`
}

function nodes({ nodes, wish }: Selection): Html {
  return html`<section aria-labelledby="nodes"><div class="head"><h2 id="nodes">Nodes and pools</h2><span class="quiet">${count(nodes)}</span>${legend}</div>
<div class="card table">${
    nodes.count === 0
      ? nothing(wish, 'There are no nodes.')
      : html`<table aria-labelledby="nodes"><thead><tr><th scope="col">Node</th><th scope="col">State</th><th scope="col">Pool</th><th scope="col" class="roomy">Room</th><th scope="col" class="number">Volumes</th><th scope="col" class="troubled">Problem</th></tr></thead>
<tbody>${nodes.rows.map(nodeRow)}</tbody></table>`
  }${pages('nodes', nodes, wish)}</div></section>`
}

function nodeRow({ node, pool, room, problems }: NodeRow): Html {
  const daemon = node.daemon === 'ready' || node.daemon === 'unknown' ? '' : `daemon ${node.daemon}`
  return html`<tr id="node-${node.name}"><th scope="row">${node.name}</th><td data-label="State" class="bare">${nodePill(node)}${daemon !== '' && html`<span class="under">${daemon}</span>`}</td><td data-label="Pool" class="named${!pool && ' empty'}">${pool && html`<div>${pool.name}<span class="under">${pool.driverKind}</span></div>`}</td><td data-label="Room" class="bare roomy${!room && ' empty'}">${room && html`<div>${bar(room)}${sizes(room)}</div>`}</td><td data-label="Volumes" class="number">${node.volumes > 0 ? html`<a href="/?q=${encodeURIComponent(node.name)}#volumes" aria-label="${formatCount(node.volumes, 'volume')} of node ${node.name}">${node.volumes}</a>` : '0'}</td><td data-label="Problem" class="bare troubled${problems.length === 0 && ' empty'}">${problems.length > 0 && html`<div>${firstProblem(problems)}</div>`}</td></tr>
`
}

function volumes({ volumes, wish }: Selection, now: Date): Html {
  return html`<section aria-labelledby="volumes"><div class="head"><h2 id="volumes">Volumes</h2><span class="quiet">${count(volumes)}</span></div>
<div class="card table">${
    volumes.count === 0
      ? nothing(
          wish,
          html`There are no volumes yet. A claim for one of our classes, and a pod with it, make the first: <code>kubectl apply -f config/pvc-sample.yaml -f config/pod-sample.yaml</code>`,
        )
      : html`<table aria-labelledby="volumes"><thead><tr><th scope="col">Claim</th><th scope="col">State</th><th scope="col" class="number">Size</th><th scope="col">Node</th><th scope="col">Pods</th><th scope="col" class="number">Age</th><th scope="col" class="troubled">Problem</th></tr></thead>
<tbody>${volumes.rows.map((volume) => volumeRow(volume, now))}</tbody></table>`
  }${pages('volumes', volumes, wish)}</div></section>`
}

/** How many pods are named. */
const mostPods = 2

function volumeRow(volume: VolumeRecord, now: Date): Html {
  const { claim, name, node, pods, problems, createdAt, storageClass, fsType, front } = volume
  const isOdd = problems.length > 0
  const left = pods.length - mostPods
  return html`<tr><th scope="row"><a href="${pathOfVolume(name)}">${titleOfVolume(volume)}</a><span class="under">${[claim ? '' : 'no claim', storageClass, fsType, front && frontNames[front]].filter(Boolean).join(', ')}</span></th><td data-label="State" class="bare">${volumePill(volume)}</td><td data-label="Size" class="number">${size(volume)}</td><td data-label="Node" class="named${node === undefined && ' empty'}">${node}</td><td data-label="Pods" class="named${pods.length === 0 && ' empty'}">${pods.length > 0 && html`<div>${pods.slice(0, mostPods).map(({ name, phase }) => html`<span>${name}</span>${phase !== 'Running' && html`<span class="under">${phase}</span>`} `)}${left > 0 && html`<span class="under">and ${left} more</span>`}</div>`}</td><td data-label="Age" class="number">${createdAt && formatAge(createdAt, now)}</td><td data-label="Problem" class="bare troubled${!isOdd && ' empty'}">${isOdd && html`<div>${firstProblem(problems)}</div>`}</td></tr>
`
}

/** What it has, and what it wants if that is more. */
export function size({ sizeBytes, requestedBytes }: VolumeRecord): Html {
  const isMore = requestedBytes !== undefined && sizeBytes !== undefined && requestedBytes > sizeBytes
  const shown = sizeBytes ?? requestedBytes
  return html`<span>${shown !== undefined && formatBytes(shown)}${isMore && html`<span class="under">wants ${formatBytes(requestedBytes)}</span>`}</span>`
}

function count({ count, page, pages }: Rows<unknown>): string {
  return pages > 1 ? `${count}, page ${page} of ${pages}` : String(count)
}

function nothing({ text, troubled }: Wish, otherwise: string | Html): Html {
  const why =
    text !== '' ? `Nothing here matches ${JSON.stringify(text)}.` : troubled ? 'Nothing here has a problem.' : otherwise
  return html`<p class="none">${why}</p>`
}

function pages(which: 'nodes' | 'volumes', { page, pages }: Rows<unknown>, wish: Wish): Html | false {
  if (pages === 1) return false
  const link = (to: number, rel: string, text: string) =>
    html`<a href="${pathOf({ ...wish, [`${which}Page`]: to })}#${which}" rel="${rel}">${text}</a>`
  return html`<nav class="pages" aria-label="Pages of ${which}">${page > 1 && link(page - 1, 'prev', '← Previous')}<span class="quiet">Page ${page} of ${pages}</span>${page < pages && link(page + 1, 'next', 'Next →')}</nav>`
}

function pathOf({ text, troubled, nodesPage, volumesPage }: Wish): string {
  const query = new URLSearchParams({
    ...(text === '' ? {} : { q: text }),
    ...(troubled ? { troubled: 'yes' } : {}),
    ...(nodesPage > 1 ? { nodes: String(nodesPage) } : {}),
    ...(volumesPage > 1 ? { volumes: String(volumesPage) } : {}),
  })
  return `/?${query}`
}
