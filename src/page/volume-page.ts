import type { Chain, Link, VolumeRecord } from '../overview/records.ts'
import { formatAge, formatCount } from '../text/quantity.ts'
import type { Seen } from './cluster-view.ts'
import type { FrameParts } from './frame.ts'
import { type Html, html } from './html.ts'
import { lost, size } from './overview-page.ts'
import { bar, frontNames, icon, legend, more, sizes, volumePill, words } from './parts.ts'
import { listNodes, pathOfVolume, titleOfVolume } from './select.ts'

/** One volume: what it is, and how far it has come. */
export function volumePage(
  { overview, failure }: Seen,
  volume: VolumeRecord,
  chain: Chain,
): Omit<FrameParts, 'version'> {
  const title = titleOfVolume(volume)
  const { claim, node } = volume
  const place = node === undefined ? undefined : listNodes(overview).find((row) => row.node.name === node)
  return {
    title: `${title}: ${volume.state}`,
    at: overview.at,
    json: `/api${pathOfVolume(volume.name)}`,
    body: html`
${failure !== undefined && lost(failure)}
<nav class="crumb" aria-label="Where you are"><a href="/">All volumes</a></nav>
<div class="title"><h1>${title}</h1>${volumePill(volume)}</div>
<div class="two">
<section aria-labelledby="chain"><div class="head"><h2 id="chain">Progress</h2></div>
<ol class="card chain">${chain.links.map(step)}</ol>
${claim && html`<p class="quiet">In a terminal: <code>kubectl elastic_local explain pvc/${claim.name} -n ${claim.namespace}</code></p>`}</section>
<section aria-labelledby="facts"><div class="head"><h2 id="facts">Details</h2></div>
<dl class="card facts">
${fact('Size', size(volume))}
${fact('Pods', pods(volume))}
${fact('Node', node !== undefined && html`<a href="/?q=${encodeURIComponent(node)}">${node}</a>`)}
${place?.pool && place.room && fact('Pool', html`${place.pool.name} <span class="quiet">${place.pool.driverKind}</span>${bar(place.room)}${sizes(place.room)}`)}
${fact('Class', volume.storageClass)}
${fact('Mounted by', volume.front && frontNames[volume.front])}
${fact('Filesystem', volume.fsType)}
${fact('Reclaim policy', volume.reclaimPolicy && { Delete: 'Delete: its data goes with the claim', Retain: 'Retain: its data is kept' }[volume.reclaimPolicy])}
${fact('Age', volume.createdAt && formatAge(volume.createdAt, overview.at))}
${fact('Volume', html`<code>${volume.name}</code>`)}
</dl>${place?.room && legend}</section>
</div>`,
  }
}

function step({ link, status, message, ...rest }: Link): Html {
  return html`<li class="${status}"><span class="mark ${status}">${icon(status)}</span><h3>${link.replace(/^./, (first) => first.toUpperCase())}<span class="word is-${status}">${words[status]}</span></h3><p>${message}</p>${more(rest)}</li>`
}

function pods({ pods }: VolumeRecord): Html | false {
  if (pods.length === 0) return false
  return html`<ul aria-label="${formatCount(pods.length, 'pod')}">${pods.map(({ name, node, phase }) => html`<li>${name} <span class="quiet">${[phase, node].filter(Boolean).join(' on ')}</span></li>`)}</ul>`
}

function fact(name: string, value: Html | string | false | undefined): Html | false {
  return value === undefined || value === false ? false : html`<div><dt>${name}</dt><dd>${value}</dd></div>`
}
