import { styleText } from 'node:util'

export type Colour = 'red' | 'yellow' | 'green' | 'dim' | 'bold'

/** Gives a text its colour, or leaves it as it is. */
export type Paint = (colour: Colour, text: string) => string

export const plain: Paint = (_, text) => text

/** Colours on a terminal that shows them; none where `NO_COLOR` is set (no-color.org). */
export function buildPaint(stream: { isTTY?: boolean }, env: NodeJS.ProcessEnv): Paint {
  if (!stream.isTTY || env.NO_COLOR || env.TERM === 'dumb') return plain
  return (colour, text) => styleText(colour, text, { validateStream: false })
}

/**
 * The text with control characters written out, and those that turn the direction of writing, so that no name or message
 * of others can steer the terminal, or look like something else.
 */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it is about.
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (character) => {
    if (character === '\n' || character === '\t') return ' '
    const code = character.charCodeAt(0).toString(16)
    return code.length > 2 ? `\\u${code}` : `\\x${code.padStart(2, '0')}`
  })
}
