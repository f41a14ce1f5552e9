// The published Node provider over a Unix socket: values, errors, events, a kill and a restart of the daemon.
// Usage: node provider.mjs SOCKET FLAGS_FILE RESTART_COMMAND. One line per check.
import { execFileSync } from 'node:child_process';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { FlagdProvider } from '@openfeature/flagd-provider';
import { OpenFeature, ProviderEvents } from '@openfeature/server-sdk';

const [socketPath, file, restart] = process.argv.slice(2);
let failed = 0;
const check = async (name, body) => {
  try {
    await body();
    console.log(`ok - node provider: ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`not ok - node provider: ${name}: ${error}`);
  }
};
const equal = (actual, expected) => {
  if (JSON.stringify(actual) !== JSON.stringify(expected)) {
    throw new Error(`${JSON.stringify(actual)} is not ${JSON.stringify(expected)}`);
  }
};
const within = (promise, what, time = 30000) =>
  Promise.race([promise, new Promise((_, no) => setTimeout(() => no(new Error(`no ${what}`)), time).unref())]);
const event = (client, kind) => new Promise((yes) => {
  const handler = (details) => {
    client.removeHandler(kind, handler);
    yes(details);
  };
  client.addHandler(kind, handler);
});

const provider = new FlagdProvider({ socketPath, cache: 'disabled', retryGracePeriod: 2 });
await within(OpenFeature.setProviderAndWait(provider), 'ready provider');
const client = OpenFeature.getClient();
const details = (value) => [value.value, value.reason, value.variant, value.errorCode];

await check('boolean', async () =>
  equal(details(await client.getBooleanDetails('boolean-flag', false)), [true, 'STATIC', 'on', undefined]));
await check('string', async () =>
  equal(details(await client.getStringDetails('string-flag', 'bye')), ['hi', 'STATIC', 'greeting', undefined]));
await check('integer', async () => equal(await client.getNumberValue('integer-flag', 1), 10));
await check('float', async () => equal(await client.getNumberValue('float-flag', 0.1), 0.5));
await check('object', async () => equal((await client.getObjectValue('object-flag', {})).imagesPerPage, 100));
await check('zero value', async () => equal(await client.getNumberValue('integer-zero-flag', 1), 0));
await check('targeting', async () => {
  const context = { email: 'ballmer@macrosoft.com' };
  equal(await client.getStringValue('some-email-targeted-flag', 'x', context), 'hi');
});
await check('fractional v2', async () => {
  equal(await client.getStringValue('fractional-flag', 'x', { user: { name: 'jack' } }), 'hearts');
});
await check('disabled flag has the code default', async () =>
  equal(details(await client.getBooleanDetails('disabled-boolean-flag', true)).slice(0, 2), [true, 'DISABLED']));
await check('no default variant has the code default', async () =>
  equal(details(await client.getBooleanDetails('null-default-flag', true)).slice(0, 2), [true, 'DEFAULT']));
await check('metadata', async () => {
  const value = await client.getBooleanDetails('metadata-flag', true);
  equal([value.flagMetadata.string, value.flagMetadata.integer], ['a', 1]);
});
for (const [key, ask, code] of [
  ['no-such-flag', 'getBooleanDetails', 'FLAG_NOT_FOUND'],
  ['boolean-flag', 'getStringDetails', 'TYPE_MISMATCH'],
  ['error-targeting-flag', 'getNumberDetails', 'PARSE_ERROR'],
]) {
  await check(code, async () => equal((await client[ask](key, key === 'boolean-flag' ? 'x' : ask === 'getNumberDetails' ? 3 : false)).errorCode, code));
}
await check('a renamed-over file is a change event', async () => {
  const changed = event(client, ProviderEvents.ConfigurationChanged);
  const flags = JSON.parse(readFileSync(file, 'utf8'));
  flags.flags['changing-flag'].defaultVariant = flags.flags['changing-flag'].defaultVariant === 'foo' ? 'bar' : 'foo';
  writeFileSync(`${file}.new`, JSON.stringify(flags));
  renameSync(`${file}.new`, file);
  equal((await within(changed, 'change')).flagsChanged, ['changing-flag']);
});
await check('kill -9 and restart: the provider recovers', async () => {
  const lost = Promise.race([event(client, ProviderEvents.Stale), event(client, ProviderEvents.Error)]);
  execFileSync(restart, ['kill'], { stdio: 'ignore' });
  await within(lost, 'stale or error event');
  const back = event(client, ProviderEvents.Ready);
  execFileSync(restart, ['start'], { stdio: 'ignore' });
  await within(back, 'ready event', 60000);
  equal(await client.getBooleanValue('boolean-flag', false), true);
});
await OpenFeature.close();
process.exit(failed > 0 ? 1 : 0);
