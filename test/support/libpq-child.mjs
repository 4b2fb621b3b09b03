// Runs the real libpq for libpq.ts. One call at a time: libpq reads the process's environment all along a connect.
import koffi from 'koffi';

const OPTION_LIMIT = 80;
const lib = koffi.load(process.argv[2], { deep: true });

const Option = koffi.struct({
  keyword: 'str',
  envvar: 'str',
  compiled: 'str',
  val: 'str',
  label: 'void *',
  dispchar: 'str',
  dispsize: 'int',
});
const PQconninfoParse = lib.func('void *PQconninfoParse(const char *text, _Out_ char **error)');
const PQconndefaults = lib.func('void *PQconndefaults()');
const PQconninfo = lib.func('void *PQconninfo(void *conn)');
const PQconninfoFree = lib.func('void PQconninfoFree(void *options)');
const PQconnectdb = lib.func('void *PQconnectdb(const char *text)');
const PQfinish = lib.func('void PQfinish(void *conn)');
const PQlibVersion = lib.func('int PQlibVersion()');
const text = (name) => lib.func(`const char *${name}(void *conn)`);
const number = (name) => lib.func(`int ${name}(void *conn)`);
const [PQerrorMessage, PQhost, PQhostaddr, PQport, PQuser, PQdb, PQpass] = [
  'PQerrorMessage',
  'PQhost',
  'PQhostaddr',
  'PQport',
  'PQuser',
  'PQdb',
  'PQpass',
].map(text);
const [PQstatus, PQsslInUse, PQbackendPID, PQserverVersion, PQconnectionUsedPassword, PQconnectionNeedsPassword] = [
  'PQstatus',
  'PQsslInUse',
  'PQbackendPID',
  'PQserverVersion',
  'PQconnectionUsedPassword',
  'PQconnectionNeedsPassword',
].map(number);
const PQsslAttribute = lib.func('const char *PQsslAttribute(void *conn, const char *name)');
const PQparameterStatus = lib.func('const char *PQparameterStatus(void *conn, const char *name)');

const optionSize = koffi.sizeof(Option);

function readOptions(pointer) {
  const options = [];
  for (let i = 0; i < OPTION_LIMIT; i++) {
    const option = koffi.decode(pointer, i * optionSize, Option);
    if (option.keyword === null) break;
    options.push(option);
  }
  PQconninfoFree(pointer);
  return options;
}

function setValues(options) {
  const values = {};
  for (const { keyword, val } of options) if (val !== null) values[keyword] = val;
  return values;
}

function withEnvironment(env, run) {
  for (const name of Object.keys(process.env)) delete process.env[name];
  Object.assign(process.env, env);
  return run();
}

function parse(source) {
  const error = [null];
  const pointer = PQconninfoParse(source, error);
  if (pointer === null) return { ok: false, error: error[0] ?? '' };
  return { ok: true, values: setValues(readOptions(pointer)) };
}

function connect(source, attributes, parameters) {
  const conn = PQconnectdb(source);
  try {
    const pick = (names, read) => Object.fromEntries(names.map((name) => [name, read(conn, name)]));
    return {
      ok: PQstatus(conn) === 0,
      error: PQerrorMessage(conn),
      host: PQhost(conn),
      hostaddr: PQhostaddr(conn),
      port: PQport(conn),
      user: PQuser(conn),
      database: PQdb(conn),
      password: PQpass(conn),
      pid: PQbackendPID(conn),
      serverVersion: PQserverVersion(conn),
      usedPassword: PQconnectionUsedPassword(conn) === 1,
      needsPassword: PQconnectionNeedsPassword(conn) === 1,
      sslInUse: PQsslInUse(conn) === 1,
      sslAttributes: pick(attributes, PQsslAttribute),
      parameters: pick(parameters, PQparameterStatus),
      values: setValues(readOptions(PQconninfo(conn))),
    };
  } finally {
    PQfinish(conn);
  }
}

const calls = {
  version: () => PQlibVersion(),
  parse: ({ texts }) => texts.map(parse),
  defaults: ({ env }) =>
    withEnvironment(env, () =>
      readOptions(PQconndefaults()).map(({ keyword, envvar, compiled, val, dispchar }) => ({
        keyword,
        envvar,
        compiled,
        value: val,
        secret: dispchar === '*',
      })),
    ),
  connect: ({ conninfo, env, attributes, parameters }) =>
    withEnvironment(env, () => connect(conninfo, attributes, parameters)),
};

process.on('message', ({ call, ...rest }) => {
  process.send({ result: calls[call](rest) });
});
process.on('disconnect', () => process.exit());
