/**
 * What the page does by itself where scripts run: it looks for what is typed, and shows the cluster anew every 10 s while
 * it is visible, unless somebody is at a link or has selected text. Without it, everything is there, and a form looks.
 */
export const script = `
'use strict'
{
  const everyMs = 10000
  const find = (id) => document.getElementById(id)
  const [live, form] = [find('live'), find('find')]
  let asking, typing

  const show = async (address) => {
    asking?.abort()
    asking = new AbortController()
    const { signal } = asking
    try {
      const response = await fetch(address, { signal })
      const page = new DOMParser().parseFromString(await response.text(), 'text/html')
      if (!page.getElementById('shown')) throw new Error()
      document.title = page.title
      for (const id of ['read', 'shown']) find(id).replaceWith(page.getElementById(id))
    } catch {
      if (signal.aborted) return
      find('read').textContent = 'No answer; this is the last known state.'
      find('read').classList.add('lost')
    }
  }
  const isRead = () => find('shown').contains(document.activeElement) || !getSelection().isCollapsed
  setInterval(() => {
    if (live.checked && !document.hidden && !isRead()) show(location.href)
  }, everyMs)
  live.parentElement.hidden = false

  const look = () => {
    const words = new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ''))
    const address = words.size > 0 ? '/?' + words : '/'
    history.replaceState(null, '', address)
    show(address)
  }
  form?.addEventListener('submit', (event) => {
    event.preventDefault()
    look()
  })
  form?.addEventListener('input', () => {
    clearTimeout(typing)
    typing = setTimeout(look, 250)
  })
}
`
