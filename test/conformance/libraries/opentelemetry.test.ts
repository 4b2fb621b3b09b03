import { AsyncLocalStorage } from 'node:async_hooks';
import { createRequire } from 'node:module';
import { context, ROOT_CONTEXT, SpanStatusCode, trace, type Context, type ContextManager } from '@opentelemetry/api';
import { PgInstrumentation } from '@opentelemetry/instrumentation-pg';
import { MeterProvider, MetricReader, type MetricData } from '@opentelemetry/sdk-metrics';
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
  type ReadableSpan,
} from '@opentelemetry/sdk-trace-base';
import pg from 'pg';
import Cursor from 'pg-cursor';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import type { PgPool } from 'nestjs-pg';
import { openPoolOfOne, pidOf } from './one-connection.js';
import { expectAllIdle, expectNothingLeft, openPool } from './pool-under-test.js';

/** What `@opentelemetry/context-async-hooks` does. */
class ContextStore implements ContextManager {
  readonly #store = new AsyncLocalStorage<Context>();

  active(): Context {
    return this.#store.getStore() ?? ROOT_CONTEXT;
  }

  with<A extends unknown[], F extends (...args: A) => ReturnType<F>>(
    active: Context,
    work: F,
    self?: ThisParameterType<F>,
    ...args: A
  ): ReturnType<F> {
    return this.#store.run(active, () => work.call(self, ...args));
  }

  bind<T>(bound: Context, target: T): T {
    if (typeof target !== 'function') return target;
    const work = target as unknown as (...args: unknown[]) => unknown;
    const store = this.#store;
    return function (this: unknown, ...args: unknown[]) {
      return store.run(bound, () => work.apply(this, args));
    } as T;
  }

  enable(): this {
    return this;
  }

  disable(): this {
    return this;
  }
}

class Reader extends MetricReader {
  protected override async onShutdown(): Promise<void> {
    // Nothing to shut down.
  }

  protected override async onForceFlush(): Promise<void> {
    // Nothing is held back.
  }
}

const exporter = new InMemorySpanExporter();
const tracing = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
const reader = new Reader();
const metering = new MeterProvider({ readers: [reader] });
const tracer = tracing.getTracer('test');

context.setGlobalContextManager(new ContextStore());
const instrumentation = new PgInstrumentation();
instrumentation.setTracerProvider(tracing);
instrumentation.setMeterProvider(metering);
// It changes pg and pg-pool as they pass through `require`; it does not matter that they have been loaded before.
const require = createRequire(import.meta.url);
require('pg');
require('pg-pool');

beforeEach(() => {
  instrumentation.setConfig({});
  exporter.reset();
});

afterAll(() => instrumentation.disable());

/** Runs work inside a span, and returns that span's id. */
async function inSpan(name: string, work: () => Promise<unknown>): Promise<string> {
  const span = tracer.startSpan(name);
  await context.with(trace.setSpan(context.active(), span), work);
  span.end();
  return span.spanContext().spanId;
}

/** The spans of statements that have ended, or of others by the beginning of their names. */
const spansOf = (prefix = 'pg.query'): ReadableSpan[] =>
  exporter.getFinishedSpans().filter(({ name }) => name.startsWith(prefix));

interface Queryable {
  query: (...args: unknown[]) => unknown;
}

/** A statement in every form in which pg takes one. */
const FORMS: { form: string; run: (on: Queryable) => Promise<unknown> }[] = [
  { form: 'text', run: async (on) => on.query('SELECT 1') },
  { form: 'text and values', run: async (on) => on.query('SELECT $1::int', [1]) },
  { form: 'a config', run: async (on) => on.query({ text: 'SELECT $1::int', values: [1] }) },
  { form: 'a config and values', run: async (on) => on.query({ text: 'SELECT $1::int' }, [1]) },
  { form: 'text and callback', run: (on) => told((done) => on.query('SELECT 1', done)) },
  { form: 'text, values and callback', run: (on) => told((done) => on.query('SELECT $1::int', [1], done)) },
  {
    form: 'a config with types of its own, and callback',
    run: (on) => told((done) => on.query({ text: 'SELECT 1', types: pg.types }, done)),
  },
  { form: 'a config and callback', run: (on) => told((done) => on.query({ text: 'SELECT 1' }, done)) },
];

function told(work: (done: (error: Error | null) => void) => unknown): Promise<void> {
  return new Promise((resolve, reject) => {
    work((error) => (error ? reject(error) : resolve()));
  });
}

describe.each(FORMS)('a statement as $form', ({ run }) => {
  it('through pool.query() is one span, in the span of who asked', async () => {
    const pool = openPool('span');
    const parent = await inSpan('request', () => run(pool));
    const spans = spansOf();
    expect(spans.map(({ name }) => name)).toEqual(['pg.query:SELECT postgres']);
    expect(spans[0]?.parentSpanContext?.spanId).toBe(parent);
    expect(spans[0]?.status.code).toBe(SpanStatusCode.UNSET);
    await expectNothingLeft(pool);
  });

  it('on a lease is one span, in the span of who asked', async () => {
    const pool = openPool('lease-span');
    const lease = await pool.connect();
    const parent = await inSpan('request', () => run(lease));
    const spans = spansOf();
    expect(spans.map(({ name }) => name)).toEqual(['pg.query:SELECT postgres']);
    expect(spans[0]?.parentSpanContext?.spanId).toBe(parent);
    lease.release();
    await expectNothingLeft(pool);
  });
});

describe('spans of statements', () => {
  it('say where to and what, and how it failed', async () => {
    const pool = openPool('failed-span');
    const { host, port, database } = pool.options;
    await expect(pool.query('SELECT 1/0')).rejects.toThrow('division by zero');
    const lease = await pool.connect();
    await expect(lease.query('SELECT 2/0')).rejects.toThrow('division by zero');
    lease.release();
    const spans = spansOf();
    expect(spans.map(({ attributes }) => attributes['db.query.text'])).toEqual(['SELECT 1/0', 'SELECT 2/0']);
    for (const span of spans) {
      expect(span.status).toEqual({ code: SpanStatusCode.ERROR, message: 'division by zero' });
      expect(span.events.map(({ name }) => name)).toEqual(['exception']);
      expect(span.attributes).toMatchObject({
        'db.system.name': 'postgresql',
        'db.namespace': database,
        'server.address': host,
        'server.port': port,
      });
    }
    await expectNothingLeft(pool);
  });

  it('belong each to its own request, though all wait for the same connection', async () => {
    const { pool } = await openPoolOfOne('many-spans');
    exporter.reset();
    const numbers = Array.from({ length: 20 }, (_, n) => n);
    const parents = await Promise.all(
      numbers.map((n) =>
        inSpan(`request ${n}`, async () => {
          if (n % 2 === 0) await pool.query({ text: 'SELECT $1::int', values: [n], name: `query-${n}` });
          else await pool.withConnection((lease) => lease.query({ text: 'SELECT 1', name: `query-${n}` }));
        }),
      ),
    );
    const found = spansOf().map(({ name, parentSpanContext }) => [name, parentSpanContext?.spanId]);
    expect(found).toHaveLength(20);
    expect(found).toEqual(expect.arrayContaining(numbers.map((n) => [`pg.query:query-${n} postgres`, parents[n]])));
    await expectNothingLeft(pool);
  });

  it('are the parents of what callbacks do, be it on a new connection or after waiting', async () => {
    const pool = openPool('callbacks', { pool: { max: 1 } });
    const active = (): string | undefined => trace.getActiveSpan()?.spanContext().spanId;
    const callbacks = (): Promise<(string | undefined)[]> =>
      Promise.all([
        new Promise<string | undefined>((resolve) => pool.query('SELECT 1', () => resolve(active()))),
        new Promise<string | undefined>((resolve) => {
          pool.connect((_, lease, release) => {
            const seen = active();
            lease?.query('SELECT 1', () => {
              release();
              resolve(seen === active() ? seen : 'different ones');
            });
          });
        }),
      ]);
    for (const name of ['first', 'second']) {
      let seen: (string | undefined)[] = [];
      const parent = await inSpan(name, async () => (seen = await callbacks()));
      expect(seen).toEqual([parent, parent]);
    }
    await expectNothingLeft(pool);
  });

  it('are none where the pool has to speak for itself and nobody asks', async () => {
    instrumentation.setConfig({ requireParentSpan: true });
    const { pool } = await openPoolOfOne('own-statements', { pool: { max: 1, reset: 'clean', keepaliveMillis: 1 } });
    const lease = await pool.connect();
    await lease.query('BEGIN');
    lease.release();
    await pidOf(pool);
    expect(exporter.getFinishedSpans()).toEqual([]);
    await expectNothingLeft(pool);
  });

  it('reach the server as application_name, in front of their statements', async () => {
    instrumentation.setConfig({ enableTraceContextPropagation: true });
    const { pool, pid } = await openPoolOfOne('propagation');
    exporter.reset();
    const { rows } = await pool.query<{ application_name: string }>('SHOW application_name');
    const [span] = spansOf();
    expect(rows[0]?.application_name).toContain(span?.spanContext().spanId);
    const cursor = pool.query(new Cursor<{ n: number }>('SELECT n FROM generate_series(1, 3) AS n'));
    expect(await cursor.read(2)).toEqual([{ n: 1 }, { n: 2 }]);
    await cursor.close();
    await expect(pool.query('SELECT 1/0')).rejects.toMatchObject({ code: '22012' });
    expect(await pidOf(pool)).toBe(pid);
    await expectNothingLeft(pool);
  });
});

describe('spans of connections', () => {
  it('are one for each that is opened', async () => {
    const pool = openPool('connects', { pool: { max: 2 } });
    for (let n = 0; n < 3; n++) await pool.query('SELECT 1');
    await Promise.all([pool.query('SELECT 1'), pool.query('SELECT 1')]);
    expect(spansOf('pg.connect')).toHaveLength(pool.stats().connects);
    await expectNothingLeft(pool);
  });

  // The instrumentation wraps pg-pool's connect(), which PgPool does not use.
  it.fails('are one more for each that is borrowed', async () => {
    const pool = openPool('borrows');
    const lease = await pool.connect();
    lease.release();
    await pool.query('SELECT 1');
    expect(spansOf('pg-pool.connect')).toHaveLength(2);
  });
});

describe('metrics', () => {
  it('count and time the statements', async () => {
    const pool = openPool('durations');
    const before = countOf(await collect());
    for (let n = 0; n < 5; n++) await pool.query('SELECT 1');
    await expect(pool.query('SELECT 1/0')).rejects.toMatchObject({ code: '22012' });
    const lease = await pool.connect();
    await lease.query('SELECT 1');
    lease.release();
    expect(countOf(await collect()) - before).toBe(7);
    await expectNothingLeft(pool);
  });

  // The instrumentation adds its listeners to a pool in pg-pool's connect(), which PgPool does not use.
  it.fails('tell how many connections are used and idle, without being asked to', async () => {
    const pool = openPool('counts');
    await pool.query('SELECT 1');
    expect(gaugesOf(await collect(), pool)).toMatchObject({ idle: 1 });
  });

  it('tell how many connections are used and idle, and how many borrowers wait, once they listen to the pool', async () => {
    const pool = openPool('listened', { pool: { max: 2 } });
    const { _setPoolConnectEventListeners: listenTo } = instrumentation as unknown as {
      _setPoolConnectEventListeners: (pool: PgPool) => void;
    };
    listenTo.call(instrumentation, pool);
    const leases = [await pool.connect(), await pool.connect()];
    expect(gaugesOf(await collect(), pool)).toMatchObject({ max: 2, used: 2, idle: 0 });
    const waiter = pool.connect();
    for (const lease of leases) lease.release();
    (await waiter).release();
    await expectAllIdle(pool);
    // They are read when a release is told of, which is before the connection rests, as with pg-pool.
    expect(gaugesOf(await collect(), pool)).toMatchObject({ max: 2, used: 1, idle: 1, pending: 0 });
    await expectNothingLeft(pool);
    expect(gaugesOf(await collect(), pool)).toMatchObject({ used: 0, idle: 0 });
  });
});

async function collect(): Promise<MetricData[]> {
  const { resourceMetrics, errors } = await reader.collect();
  expect(errors).toEqual([]);
  return resourceMetrics.scopeMetrics.flatMap(({ metrics }) => metrics);
}

/** Statements whose duration has been recorded. */
function countOf(metrics: MetricData[]): number {
  const durations = metrics.find(({ descriptor }) => descriptor.name === 'db.client.operation.duration');
  const points = (durations?.dataPoints ?? []) as { value: { count: number } }[];
  return points.reduce((sum, { value }) => sum + value.count, 0);
}

/** What the metrics say of a pool's connections. */
function gaugesOf(metrics: MetricData[], pool: PgPool): Record<string, number> {
  const { host, port, database } = pool.options;
  const gauges: Record<string, number> = {};
  for (const { descriptor, dataPoints } of metrics) {
    const kind = /^db\.client\.connection\.(max|count|pending_requests)$/.exec(descriptor.name)?.[1];
    for (const { attributes, value } of dataPoints) {
      if (kind === undefined || attributes['db.client.connection.pool.name'] !== `${host}:${port}/${database}`)
        continue;
      const name = kind === 'count' ? attributes['db.client.connection.state'] : kind.replace('_requests', '');
      gauges[String(name)] = value as number;
    }
  }
  return gauges;
}
