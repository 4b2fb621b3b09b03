import { afterEach, describe, expect, it } from 'vitest';
import { sessionsOf, useServer, waitFor } from '../support/postgres.js';
import { Gate } from './support/gate.js';
import { usePrograms } from './support/program.js';

const PASSWORD = 'wisteria-17';
const server = useServer({ password: PASSWORD });

const run = usePrograms();

afterEach(async () => {
  await waitFor(async () => (await sessionsOf(server())).length === 0, { message: 'the sessions to end' });
});

describe('a script that does not close its application', () => {
  it('ends by itself', async () => {
    await using script = run('script', { DATABASE_URL: server().connectionString }, 'used');

    expect(await script.exit).toEqual({ code: 0, signal: null });
    expect(script.output).toBe('one is 1\n');
    expect(script.errors).toBe('');
  });

  it('ends by itself also while the pool tries in vain to connect in the background', async () => {
    const { connectionString, port } = server();
    const nowhere = connectionString.replace(`:${port}/`, ':1/');
    await using script = run('script', { DATABASE_URL: nowhere }, 'background');

    expect(await script.exit).toEqual({ code: 0, signal: null });
    expect(script.errors).toBe('');
  });
});

describe('an application that cannot start', () => {
  it('ends with one clear line, and no password in it', async () => {
    await using script = run('script', { DATABASE_URL: `${server().connectionString}_not` }, 'used');

    expect((await script.exit).code).not.toBe(0);
    const lines = (script.output + script.errors).split('\n').filter((line) => line.includes('postgres_not'));
    expect(lines[0]).toMatch(/Could not connect as "postgres" to database "postgres_not".*does not exist/);
    expect(script.output + script.errors).not.toContain(PASSWORD);
    expect(script.errors).not.toContain('attempt 1 failed');
  });
});

describe('SIGTERM', () => {
  it('lets the request in flight be answered; then the process ends', async () => {
    await using gate = await Gate.shut(server());
    await using program = run('http', { DATABASE_URL: server().connectionString, SLOW_QUERY: Gate.sql });
    await waitFor(() => program.output.includes('\n'), { message: 'the address', deadline: 15_000 });
    const url = /at (http:\S+)/.exec(program.output)?.[1] ?? program.errors;
    const answer = fetch(url, { headers: { connection: 'close' } });
    await gate.reached();

    program.process.kill('SIGTERM');
    const refuses = (): Promise<boolean> =>
      fetch(`${url}/nothing`, { headers: { connection: 'close' } }).then(
        () => false,
        () => true,
      );
    await waitFor(refuses, { message: 'the program to take no more requests' });
    await gate.open();

    const response = await answer;
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual([{ two: 2 }]);
    // Nest ends the process by the signal that it was sent.
    expect(await program.exit).toEqual({ code: null, signal: 'SIGTERM' });
    expect(program.errors).toBe('');
  });
});
