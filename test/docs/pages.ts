import { readdir, readFile } from 'node:fs/promises'
import { join, relative } from 'node:path'

const root = join(import.meta.dirname, '../..')

/** A page of the documentation. */
export interface Page {
  file: string
  /** Its path from the top of the tree. */
  name: string
  text: string
}

/** The pages at the top and all below docs/. */
export async function readPages(): Promise<Page[]> {
  const docs = (await readdir(join(root, 'docs'), { recursive: true })).filter((file) => file.endsWith('.md'))
  const top = (await readdir(root)).filter((file) => file.endsWith('.md'))
  const files = [...top, ...docs.map((file) => join('docs', file))].map((file) => join(root, file))
  return await Promise.all(
    files.map(async (file) => ({ file, name: relative(root, file), text: await readFile(file, 'utf8') })),
  )
}

/** The blocks of YAML in a page. */
export function yamlBlocks(text: string): string[] {
  return [...text.matchAll(/^```ya?ml\n([\s\S]*?)^```/gm)].map(([, block = '']) => block)
}

/** The lines of commands in a page: indented, in a fence of a shell, or after its prompt. */
export function commandLines(text: string): string[] {
  const prompted = [...text.matchAll(/^ *\$ (\S.*)$/gm)].map(([, line = '']) => line)
  const fenced = [...text.matchAll(/^```(?:sh|bash|shell)?\n([\s\S]*?)^```/gm)].flatMap(([, block = '']) =>
    block.split('\n'),
  )
  const indented = [...text.matchAll(/^ {4,}([^\s$].*)$/gm)].map(([, line = '']) => line)
  // A drawing is no command.
  return [...prompted, ...fenced, ...indented].filter((line) => !line.includes('──'))
}

/** What the first cells of a page's tables quote, as patterns: "…" stands for anything. */
export function quotedWords(text: string): RegExp[] {
  const cells = [...text.matchAll(/^\| ([^|]*) \|/gm)].map(([, cell = '']) => cell)
  const quotes = cells.flatMap((cell) => /"(.*)"/.exec(cell)?.[1] ?? [])
  const literal = (words: string) => words.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
  return quotes.map(
    (quote) =>
      new RegExp(
        quote
          .split(/…|" with "/)
          .map(literal)
          .join('.*'),
        's',
      ),
  )
}
