import { configError } from './config-error.js';
import { storeValue, type Values } from './stored-values.js';

/** 0 if the text is no connection URI. The scheme is case-sensitive in libpq. */
export function uriPrefixLength(text: string): number {
  return /^postgres(?:ql)?:\/\//.exec(text)?.[0].length ?? 0;
}

/**
 * `conninfo_uri_parse_options` of fe-connect.c. It reads
 * `postgresql://[user[:password]@][host][:port][,...][/dbname][?keyword=value&...]` from left to right without
 * backtracking; host and port lists are joined first and percent-decoded as a whole.
 */
export function parseUri(text: string): Values {
  return new UriReader(text).read();
}

class UriReader {
  readonly #text: string;
  readonly #values: Values = {};
  /** Keywords whose present value is no UTF-8, with the place: a later parameter may still replace the value. */
  readonly #notText = new Map<string, string>();
  #at: number;

  constructor(text: string) {
    this.#text = text;
    this.#at = uriPrefixLength(text);
  }

  read(): Values {
    this.#readCredentials();
    this.#readHosts();
    if (this.#char() === '/') {
      const start = this.#at + 1;
      this.#at = this.#indexOf('?', start);
      this.#storePart('dbname', start, this.#at);
    }
    if (this.#char() === '?') this.#readParameters();
    for (const place of this.#notText.values()) {
      throw configError(`The percent-encoded bytes in ${place} are not UTF-8, which is all that node-postgres sends.`);
    }
    return this.#values;
  }

  #readCredentials(): void {
    const start = this.#at;
    const end = this.#indexOf('@/', start);
    if (this.#text[end] !== '@') return;
    const userEnd = this.#indexOf(':@', start);
    this.#storePart('user', start, userEnd);
    if (userEnd < end) this.#storePart('password', userEnd + 1, end);
    this.#at = end + 1;
  }

  #readHosts(): void {
    const place = `the host list at position ${this.#at + 1} of the connection URI`;
    let hosts = '';
    let ports = '';
    for (;;) {
      hosts += this.#char() === '[' ? this.#readBrackets() : this.#readUntil(':/?,');
      if (this.#char() === ':') {
        this.#at++;
        ports += this.#readUntil('/?,');
      }
      if (this.#char() !== ',') break;
      hosts += ',';
      ports += ',';
      this.#at++;
    }
    if (hosts !== '') this.#store('host', decode(hosts, place));
    if (ports !== '') this.#store('port', decode(ports, place));
  }

  #readBrackets(): string {
    const open = this.#at;
    const close = this.#text.indexOf(']', open);
    if (close < 0) throw configError(`The "[" at position ${open + 1} of the connection URI has no "]".`);
    if (close === open + 1) throw configError(`The address at position ${open + 1} of the connection URI is empty.`);
    this.#at = close + 1;
    const next = this.#char();
    if (next !== undefined && !':/?,'.includes(next)) {
      throw configError(
        `At position ${this.#at + 1} of the connection URI, after "]", only ":", "/", "?" or "," may stand.`,
      );
    }
    return this.#text.slice(open + 1, close);
  }

  /** `conninfo_uri_parse_params`. A trailing `&` is allowed, an empty pair elsewhere is not. */
  #readParameters(): void {
    this.#at++;
    while (this.#at < this.#text.length) {
      const place = `at position ${this.#at + 1} of the connection URI`;
      const pair = this.#readUntil('&').split('=');
      this.#at++;
      const [rawName, rawValue] = pair;
      if (rawName === undefined || rawValue === undefined) {
        throw configError(`The query parameter ${place} has no "=".`);
      }
      if (pair.length > 2) {
        throw configError(`The query parameter ${place} has more than one "=": write %3D in a value.`);
      }
      const name = decode(rawName, `the query parameter ${place}`).text;
      const value = decode(rawValue, `the query parameter ${place}`);
      // JDBC's spelling, which libpq takes in this one form.
      const jdbc = name === 'ssl' && value.text === 'true';
      const keyword = storeValue(this.#values, jdbc ? 'sslmode' : name, jdbc ? 'require' : value.text, place);
      // An alias stores a word of its own, whatever the value's bytes were.
      this.#mark(keyword, keyword === name ? value : { ...value, isText: true });
    }
  }

  /** An empty part is as good as absent: it must not hide what environment or service say. */
  #storePart(name: 'user' | 'password' | 'dbname', start: number, end: number): void {
    if (start === end) return;
    const place = `the ${name} at position ${start + 1} of the connection URI`;
    this.#store(name, decode(this.#text.slice(start, end), place));
  }

  #store(name: 'user' | 'password' | 'dbname' | 'host' | 'port', value: Decoded): void {
    this.#values[name] = value.text;
    this.#mark(name, value);
  }

  #mark(name: string, value: Decoded): void {
    if (value.isText) this.#notText.delete(name);
    else this.#notText.set(name, value.place);
  }

  #char(): string | undefined {
    return this.#text[this.#at];
  }

  #readUntil(stops: string): string {
    const start = this.#at;
    this.#at = this.#indexOf(stops, start);
    return this.#text.slice(start, this.#at);
  }

  #indexOf(stops: string, from: number): number {
    let at = from;
    while (at < this.#text.length && !stops.includes(this.#text[at] ?? '')) at++;
    return at;
  }
}

interface Decoded {
  readonly text: string;
  readonly place: string;
  /** False if the bytes are not UTF-8: `text` is then not what was meant. */
  readonly isText: boolean;
}

/** `conninfo_uri_decode`: blanks at both ends are dropped, blanks inside are an error, and so is a NUL. */
function decode(raw: string, place: string): Decoded {
  const source = raw.replace(/^ +| +$/g, '');
  const bytes: Buffer[] = [];
  let at = 0;
  while (at < source.length) {
    const percent = source.indexOf('%', at);
    const end = percent < 0 ? source.length : percent;
    const plain = source.slice(at, end);
    if (plain.includes(' ')) throw configError(`There is a blank inside ${place}: write %20.`);
    bytes.push(Buffer.from(plain));
    if (percent < 0) break;
    const hex = source.slice(percent + 1, percent + 3);
    if (!/^[0-9A-Fa-f]{2}$/.test(hex)) {
      throw configError(`A "%" in ${place} is not followed by two hexadecimal digits: write %25 for the sign itself.`);
    }
    if (hex === '00') throw configError(`There is a %00 in ${place}: a NUL is not allowed.`);
    bytes.push(Buffer.from(hex, 'hex'));
    at = percent + 3;
  }
  const all = Buffer.concat(bytes);
  const text = all.toString();
  return { text, place, isText: Buffer.from(text).equals(all) };
}
