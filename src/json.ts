/** JSON with sizes as decimal texts, as JSON's numbers end at 2^53, and times in ISO 8601. */
export function toJson(value: unknown): string {
  return JSON.stringify(value, (_, field) => (typeof field === 'bigint' ? String(field) : field))
}
