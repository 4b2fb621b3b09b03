/**
 * Connection strings to judge parsers by, each taken as it is and as a seed for mutations. SECRET stands wherever a
 * password may stand, also where one ends up by mistake.
 */
export const SECRET = 'zQ7xWvKj4LpT';

export const URI_CORPUS: readonly string[] = [
  'postgresql://uri-user:secret@host:12345/db',
  'postgresql://uri-user@host:12345/db',
  'postgresql://uri-user@host/db',
  'postgresql://host:12345/db',
  'postgresql://host/db',
  'postgresql://uri-user@host:12345/',
  'postgresql://uri-user@host/',
  'postgresql://uri-user@',
  'postgresql://host:12345/',
  'postgresql://host:12345',
  'postgresql://host/',
  'postgresql://host',
  'postgresql://',
  'postgresql:///',
  'postgresql:///db',
  'postgres:///?hostaddr=127.0.0.1',
  'postgresql://?hostaddr=127.0.0.1',
  'postgresql://example.com?hostaddr=63.1.2.4',
  'postgresql://%68ost/',
  'postgresql://host/db?user=uri-user',
  'postgresql://host/db?user=uri-user&port=12345',
  'postgresql://host/db?u%73er=someotheruser&port=12345',
  'postgresql://host/db?u%7aer=someotheruser&port=12345',
  'postgresql://host:12345?user=uri-user',
  'postgresql://host?user=uri-user',
  'postgresql://host?',
  'postgresql://[::1]:12345/db',
  'postgresql://[::1]/db',
  'postgresql://[2001:db8::1234]/',
  'postgresql://[200z:db8::1234]/',
  'postgresql://[::1]',
  'postgresql://[::1]z',
  'postgresql://[::1',
  'postgresql://[]',
  'postgresql://[::1],[::2]:7/db',
  'postgres://',
  'postgres:///',
  'postgres:///db',
  'postgres://uri-user@/db',
  'postgres://?uzer=',
  'postgre://',
  'Postgres://host',
  'postgres:/host',
  'postgres://?',
  'postgres://?a',
  'postgres://?a=b=c',
  'postgres://?port==5',
  'postgres://?port=5&',
  'postgres://?&port=5',
  'postgres://?port=5&&user=x',
  'postgres://?port',
  'postgres://host?port=12345&user=a&user=b',
  'postgres://%',
  'postgres://%1',
  'postgres://%1z',
  'postgres://%00',
  'postgres://%zz',
  'postgres://host?sslmode=verify-full',
  'postgres://host?ssl=true',
  'postgres://host?ssl=false',
  'postgres://host?ssl=true&sslmode=disable',
  'postgres://host?requiressl=1',
  'postgres://host?requiressl=0&sslmode=verify-ca',
  'postgres://%2Fvar%2Flib%2Fpostgresql/dbname',
  'postgres:///tmp',
  'postgres://@host',
  'postgres://host:/',
  'postgres://:12345/',
  'postgres://otheruser@?host=/no/such/directory',
  'postgres://otheruser@/?host=/no/such/directory',
  'postgres://otheruser@:12345?host=/no/such/socket/path',
  'postgres://otheruser@:12345/db?host=/path/to/socket',
  'postgres://:12345/db?host=/path/to/socket',
  'postgres://:12345?host=/path/to/socket',
  'postgres://%2Fvar%2Flib%2Fpostgresql?dbname=db',
  'postgresql://h1:1,h2:2,h3:3/db?target_session_attrs=read-write',
  'postgresql://h1,h2,h3/db',
  'postgresql://h1:,:2,/db',
  'postgresql://,,/',
  'postgresql://h1%2Ch2:1%2c2/db',
  'postgresql://user%40example:p%3Aw%2Fd@host/my%20db',
  'postgresql://us%C3%A9r:p%C3%A4ss@h%F0%9F%90%98st/d%E2%82%ACb',
  'postgresql://us%FFer@host/',
  'postgresql://usér:pässwörd@höst/db?application_name=été',
  'postgresql:// user : pass @ host : 1 / db ?user= x ',
  'postgresql://host/d b',
  'postgresql://host/db?application_name=a b',
  'postgresql://host/db?options=-c%20geqo%3Doff%20-c%20search_path%3Da',
  'postgresql://host?user=a@b',
  'postgresql://us:er:na@me:5/x@y',
  'postgresql://host/db#fragment',
  'postgresql://host/db/more?x',
  'postgresql://host:12345:678/db',
  `postgresql://user:${SECRET}@host:5433/db`,
  `postgresql://user:${SECRET}@${SECRET}@host/db`,
  `postgresql://user:${SECRET}/${SECRET}@host/db`,
  `postgresql://user:${SECRET}?${SECRET}@host/db`,
  `postgresql://user:${SECRET}%${SECRET}@host/db`,
  `postgresql://user:${SECRET} ${SECRET}@host/db`,
  `postgresql://user:[${SECRET}@host/db`,
  `postgresql://user:pw@host:${SECRET}/db`,
  `postgresql://user@host/db?password=${SECRET}`,
  `postgresql://user@host/db?password=${SECRET}=${SECRET}`,
  `postgresql://user@host/db?passwort=${SECRET}`,
  `postgresql://user@host/db?${SECRET}=password`,
  `postgresql://user@host/db?${SECRET}`,
  `postgresql://user@host/db?sslpassword=${SECRET}&sslmode=${SECRET}`,
  `postgresql://user@host/db?connect_timeout=${SECRET}&port=${SECRET}`,
];

export const KEYWORD_VALUE_CORPUS: readonly string[] = [
  '',
  ' ',
  '\t\r\n\v\f',
  'host',
  'host ',
  'host=',
  'host= ',
  'host=localhost',
  'host = localhost',
  'host\t=\nlocalhost',
  'host=localhost port=5432 dbname=mydb connect_timeout=10',
  "host='localhost' port='5432'",
  "dbname='my db' user='o\\'reilly'",
  "dbname=my\\ db user=o\\'reilly",
  "password='a\\\\b'",
  'password=a\\\\b',
  'password=a\\',
  "password='a\\",
  "password='a\\'",
  "password='unterminated",
  "password=''",
  "password='' host=''",
  "host='a'port=5",
  "host='a''b'=c",
  "host=a'b'c",
  'host==a',
  '=a',
  '= =',
  'host=a port',
  'host=a port = ',
  'host= port=5',
  'host=a host=b',
  'HOST=a',
  'hots=a',
  'requiressl=1',
  'requiressl=0 sslmode=verify-full',
  'sslmode=require requiressl=',
  'ssl=true',
  'service=x service=y',
  'options=-c\\ geqo=off',
  "options='-c geqo=off'",
  'application_name=été user=🐘 dbname=\u00a0x',
  'user=a\u2028b',
  'user=a\u0085b',
  '__proto__=x',
  'constructor=x',
  'toString=',
  'localhost',
  'mysql://host/db',
  'postgresql:/host/db',
  'gssencmode=prefer target_session_attrs=any min_protocol_version=3.0',
  `host=h user=u password=${SECRET} dbname=d`,
  `user=u password='${SECRET}' host=h`,
  `password=${SECRET}\n application_name='x y' sslmode=require`,
  `host=h user=u password=${SECRET} ${SECRET} dbname=d`,
  `host=h user=u password=a ${SECRET}=b`,
  `host=h user=u password='${SECRET}`,
  `host=h user=u password='${SECRET}'${SECRET}' dbname=d`,
  `host=h user=u passwd=${SECRET}`,
  `${SECRET}=x`,
  `host=h port=${SECRET} connect_timeout=${SECRET}`,
  `host=h sslmode=${SECRET}`,
  `host=h require_auth=${SECRET}`,
  `host=h channel_binding=${SECRET} sslpassword=${SECRET}`,
  `hostaddr=${SECRET}`,
  `host=h ssl_min_protocol_version=${SECRET}`,
  `host=h oauth_client_secret=${SECRET}`,
  `host=h scram_client_key=${SECRET} scram_server_key=${SECRET}`,
  `host=h sslkey=${SECRET}:${SECRET}`,
  `host=h client_encoding=${SECRET}`,
];

/** mulberry32: the same seed gives the same cases on every machine. */
export function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

export type Pick = <T>(from: readonly T[]) => T;

export function picker(random: () => number): Pick {
  return (from) => from[Math.floor(random() * from.length)] as (typeof from)[number];
}

const FRAGMENTS: readonly string[] = [
  ...Array.from('@:/?&=%,[] \\\'#+.-_;"!'),
  '\t',
  '\n',
  '\v',
  '\f',
  '\r',
  '\u00a0',
  'é',
  '🐘',
  '%20',
  '%2C',
  '%3d',
  '%00',
  '%0',
  '%C3%A9',
  '%C3',
  '%EF%BB%BF',
  '%61',
  'postgres://',
  'postgresql://',
  'host=',
  'port=5',
  'user',
  'password=',
  'dbname',
  'ssl=true',
  'requiressl=1',
  'sslmode=',
  'service=',
  "''",
  "\\'",
  '\\\\',
  'a',
  '0',
  SECRET,
];

/** One to four small changes: insert, delete, replace, repeat, cut off, or join with another one. */
export function mutate(text: string, corpus: readonly string[], random: () => number): string {
  const pick = picker(random);
  const at = (length: number): number => Math.floor(random() * (length + 1));
  let result = text;
  for (let n = 1 + Math.floor(random() * 4); n > 0; n--) {
    const i = at(result.length);
    const j = i + Math.floor(random() * 4);
    switch (Math.floor(random() * 7)) {
      case 0:
      case 1:
        result = result.slice(0, i) + pick(FRAGMENTS) + result.slice(i);
        break;
      case 2:
        result = result.slice(0, i) + result.slice(j);
        break;
      case 3:
        result = result.slice(0, i) + pick(FRAGMENTS) + result.slice(i + 1);
        break;
      case 4:
        result = result.slice(0, j) + result.slice(i);
        break;
      case 5:
        result = random() < 0.5 ? result.slice(0, i) : result.slice(i);
        break;
      default: {
        const other = pick(corpus);
        result = result.slice(0, i) + other.slice(at(other.length));
      }
    }
  }
  // Half a surrogate pair has no UTF-8 form, and NUL ends a C string: neither can be handed to libpq.
  return Buffer.from(result)
    .toString()
    .replace(/[\0\ufffd]/g, '');
}
