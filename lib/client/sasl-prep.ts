/** RFC 3454, table C.1.2: spaces that are not ASCII. */
const SPACES = /[\u00A0\u1680\u2000-\u200B\u202F\u205F\u3000]/g;
/** RFC 3454, table B.1: mapped to nothing. */
const NOTHING = /\u00AD|\u034F|\u1806|[\u180B-\u180D]|[\u200B-\u200D]|\u2060|[\uFE00-\uFE0F]|\uFEFF/g;

/** A password as SCRAM takes it (SASLprep, RFC 4013), with pg's leniency: what is prohibited passes as it is. */
export function saslPrep(password: string): string {
  return password.replace(SPACES, ' ').replace(NOTHING, '').normalize('NFKC');
}
