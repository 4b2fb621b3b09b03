import type { ConfigContext } from './config-context.js';
import { configError } from './config-error.js';
import { parseConnectionString } from './connection-string.js';
import { readEnvironment } from './environment.js';
import { optionName, readExplicitSettings } from './explicit-settings.js';
import { KEYWORD_NAMES, KEYWORDS, type Keyword } from './keywords.js';
import type { SettingSource } from './resolved-config.js';
import { readService } from './service-file.js';
import type { ConnectionSettings } from './settings.js';
import { readSslOption, type SslSettings } from './ssl-option.js';
import type { Values } from './stored-values.js';

export interface Setting {
  readonly value: string;
  readonly source: SettingSource;
}

/** Every keyword's effective text and where it came from, before any of it is understood. */
export class SettingLayers {
  readonly #settings = new Map<Keyword, Setting>();
  readonly ssl: SslSettings;

  constructor(settings: ConnectionSettings, context: ConfigContext) {
    this.ssl = readSslOption(settings.ssl);
    const option = { ...readExplicitSettings(settings), ...this.ssl.values };
    const string = settings.connectionString === undefined ? {} : parseConnectionString(settings.connectionString);
    this.#add('option', option);
    this.#add('string', string);
    const service = this.text('service') ?? context.env.PGSERVICE;
    if (service !== undefined) {
      const label = this.source('service') === 'string' ? 'that the connection string names' : JSON.stringify(service);
      this.#add('service', readService(service, label, context).values);
    }
    this.#add('environment', readEnvironment(context.env));
    this.#addDefaults();
  }

  /** The falling order of the calls is the precedence: what is set stays. */
  #add(source: SettingSource, values: Values): void {
    for (const keyword of KEYWORD_NAMES) {
      const value = values[keyword];
      if (value === undefined || this.#settings.has(keyword)) continue;
      this.#settings.set(keyword, { value, source });
    }
  }

  #addDefaults(): void {
    const defaults: Values = {};
    for (const keyword of KEYWORD_NAMES) {
      const { compiled } = KEYWORDS[keyword];
      if (compiled !== undefined) defaults[keyword] = compiled;
    }
    const modeIsOpen = !this.#settings.has('sslmode');
    // Roots that somebody names, at whatever place, are never set aside for the system's.
    const rootsAreOpen = !this.text('sslrootcert') && this.ssl.inline.sslrootcert === undefined;
    if ((this.ssl.systemRoots || (this.ssl.strictByDefault && modeIsOpen)) && rootsAreOpen) {
      this.#settings.set('sslrootcert', { value: 'system', source: 'option' });
    }
    if (modeIsOpen && this.ssl.strictByDefault)
      this.#settings.set('sslmode', { value: 'verify-full', source: 'option' });
    if (this.text('sslrootcert') === 'system' && this.ssl.inline.sslrootcert === undefined) {
      defaults.sslmode = 'verify-full';
    }
    this.#add('default', defaults);
  }

  has(keyword: Keyword): boolean {
    return this.#settings.has(keyword);
  }

  text(keyword: Keyword): string | undefined {
    return this.#settings.get(keyword)?.value;
  }

  /** Undefined for the empty string too, which for most keywords means "not set" in libpq. */
  filled(keyword: Keyword): string | undefined {
    return this.text(keyword) || undefined;
  }

  source(keyword: Keyword): SettingSource | undefined {
    return this.#settings.get(keyword)?.source;
  }

  /** Records a value that was found only later: a default that depends on others, or the password file's. */
  note(keyword: Keyword, value: string, source: SettingSource): void {
    this.#settings.set(keyword, { value, source });
  }

  /** How errors call a setting: by its name and place, never by its value. */
  origin(keyword: Keyword): string {
    switch (this.source(keyword)) {
      case 'option':
        return optionName(keyword);
      case 'string':
        return `${keyword} in the connection string`;
      case 'service':
        return `${keyword} in the service file`;
      case 'environment':
        return keyword === 'sslmode' ? 'PGSSLMODE (or PGREQUIRESSL)' : (KEYWORDS[keyword].env ?? keyword);
      default:
        return keyword;
    }
  }

  /** As {@link origin}, with the value where the application itself wrote it and it is no secret. */
  shown(keyword: Keyword): string {
    const origin = this.origin(keyword);
    if (this.source(keyword) !== 'option' || KEYWORDS[keyword].kind === 'secret') return origin;
    return `${origin} (${JSON.stringify(this.text(keyword))})`;
  }

  /** One of libpq's fixed words. An empty value is none of them, as in libpq. */
  choice<T extends string>(keyword: Keyword, choices: readonly T[]): T | undefined {
    const value = this.text(keyword);
    if (value === undefined) return undefined;
    const found = choices.find((choice) => choice === value);
    if (found === undefined) {
      throw configError(`${this.shown(keyword)} must be ${oneOf(choices)}.`);
    }
    return found;
  }

  /** `pqParseIntParam`: blanks around are allowed, and the range is that of a C int. */
  integer(keyword: Keyword): number | undefined {
    const value = this.text(keyword);
    return value === undefined ? undefined : parseInteger(value, this.shown(keyword));
  }

  sources(): Record<string, SettingSource> {
    return Object.fromEntries([...this.#settings].map(([keyword, { source }]) => [keyword, source]));
  }
}

export function parseInteger(text: string, origin: string, range = 'of 32 bits.'): number {
  const match = /^[ \t-\r]*([+-]?\d+)[ \t-\r]*$/.exec(text);
  const value = Number(match?.[1]);
  if (match === null || value > 2_147_483_647 || value < -2_147_483_648) {
    throw configError(`${origin} must be an integer ${range}`);
  }
  return value;
}

function oneOf(choices: readonly string[]): string {
  return choices.length === 1 ? `${choices[0]}` : `${choices.slice(0, -1).join(', ')} or ${choices.at(-1)}`;
}
