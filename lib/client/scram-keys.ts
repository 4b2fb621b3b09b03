import { createHash, createHmac, pbkdf2, randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import { Secret } from '../errors/secret.js';
import { saslPrep } from './sasl-prep.js';

/** What of a password takes part in an exchange: RFC 5802, section 3. */
export interface ScramKeySet {
  readonly clientKey: Buffer;
  readonly storedKey: Buffer;
  readonly serverKey: Buffer;
}

/** How the server keeps the password of a role. */
export interface ScramTerms {
  /** Base64, as the server has sent it. */
  readonly salt: string;
  readonly iterations: number;
}

const deriveKey = promisify(pbkdf2);

/** The servers of a list may have salts of their own, and so may the processes of a pooler. */
const LIMIT = 8;

/**
 * The keys that the connections of one factory authenticate with. Deriving them is made expensive by intent, so for the same
 * password, salt and count it is done once. It keeps those of one password, the last one used, and no text of it.
 */
export class ScramKeys {
  /** Passwords are told apart by their digests under it. */
  readonly #pepper = randomBytes(32);
  readonly #keys = new Map<string, Promise<Secret<ScramKeySet>>>();
  #password: string | undefined;

  /** Who asks while they are being derived waits for the same. */
  of(password: string, terms: ScramTerms): Promise<Secret<ScramKeySet>> {
    const digest = createHmac('sha256', this.#pepper).update(password).digest('base64');
    if (digest !== this.#password) this.#keys.clear();
    this.#password = digest;
    const id = idOf(terms);
    const keys = this.#keys.get(id) ?? derive(password, terms);
    // Behind all others: the one in front has not been used for longest.
    this.#keys.delete(id);
    this.#keys.set(id, keys);
    const [oldest] = this.#keys.keys();
    if (this.#keys.size > LIMIT && oldest !== undefined) this.#keys.delete(oldest);
    return keys;
  }

  /** The server has not let anybody in with them. */
  forget(terms: ScramTerms): void {
    this.#keys.delete(idOf(terms));
  }
}

function idOf({ salt, iterations }: ScramTerms): string {
  return `${iterations} ${salt}`;
}

async function derive(password: string, { salt, iterations }: ScramTerms): Promise<Secret<ScramKeySet>> {
  const salted = await deriveKey(saslPrep(password), Buffer.from(salt, 'base64'), iterations, 32, 'sha256');
  const clientKey = hmac(salted, 'Client Key');
  const storedKey = createHash('sha256').update(clientKey).digest();
  return new Secret({ clientKey, storedKey, serverKey: hmac(salted, 'Server Key') });
}

export function hmac(key: Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}
