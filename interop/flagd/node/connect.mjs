// Connect clients of all five kinds from Node: Connect over HTTP/1.1 and HTTP/2, protobuf and JSON, gRPC, gRPC-Web.
// Usage: node connect.mjs SOCKET DESCRIPTORS. One line per check.
import { readFileSync } from 'node:fs';
import { createFileRegistry, fromBinary } from '@bufbuild/protobuf';
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';

const [socketPath, descriptors] = process.argv.slice(2);
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(descriptors)));
const v1 = registry.getService('flagd.evaluation.v1.Service');
const v2 = registry.getService('flagd.evaluation.v2.Service');
const sync = registry.getService('flagd.sync.v1.FlagSyncService');

let failed = 0;
const check = async (name, body) => {
  try {
    await body();
    console.log(`ok - ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`not ok - ${name}: ${error}`);
  }
};
const equal = (actual, expected) => {
  const text = (value) => JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? `${v}n` : v));
  if (text(actual) !== text(expected)) throw new Error(`${text(actual)} is not ${text(expected)}`);
};
const fails = async (call, code, message) => {
  const error = await call.then(() => null, (error) => ConnectError.from(error));
  equal([error?.code, error?.rawMessage], [code, message]);
};

const options = (httpVersion, more) => ({
  httpVersion, baseUrl: 'http://localhost', nodeOptions: { socketPath }, ...more,
});
const h2 = (more) => {
  const { nodeOptions, ...rest } = options('2', more);
  return { ...rest, sessionManager: undefined, nodeOptions };
};
const { Http2SessionManager } = await import('@connectrpc/connect-node');
const net = await import('node:net');
const session = () => new Http2SessionManager('http://localhost', {}, {
  createConnection: () => net.connect(socketPath),
});
const kinds = {
  'connect h1 proto': createConnectTransport(options('1.1', { useBinaryFormat: true })),
  'connect h1 json': createConnectTransport(options('1.1', { useBinaryFormat: false })),
  'connect h2 proto': createConnectTransport({ ...h2({ useBinaryFormat: true }), sessionManager: session() }),
  'connect h2 json': createConnectTransport({ ...h2({ useBinaryFormat: false }), sessionManager: session() }),
  'grpc': createGrpcTransport({ ...h2({}), sessionManager: session() }),
  'grpc-web h1': createGrpcWebTransport(options('1.1', {})),
  'grpc-web h2': createGrpcWebTransport({ ...h2({}), sessionManager: session() }),
};

for (const [kind, transport] of Object.entries(kinds)) {
  const old = createClient(v1, transport);
  const now = createClient(v2, transport);
  const ask = { flagKey: 'boolean-flag', context: {} };
  await check(`${kind}: boolean`, async () => {
    const answer = await now.resolveBoolean(ask);
    equal([answer.value, answer.reason, answer.variant], [true, 'STATIC', 'on']);
  });
  await check(`${kind}: integer`, async () => {
    equal((await now.resolveInt({ flagKey: 'integer-flag' })).value, 10n);
  });
  await check(`${kind}: float`, async () => {
    equal((await now.resolveFloat({ flagKey: 'float-flag' })).value, 0.5);
  });
  await check(`${kind}: string with targeting`, async () => {
    const context = { email: 'ballmer@macrosoft.com' };
    const answer = await now.resolveString({ flagKey: 'some-email-targeted-flag', context });
    equal([answer.value, answer.reason], ['hi', 'TARGETING_MATCH']);
  });
  await check(`${kind}: object`, async () => {
    const answer = await now.resolveObject({ flagKey: 'object-flag' });
    equal(answer.value.title, 'Check out these pics!');
  });
  await check(`${kind}: disabled has no value in v2`, async () => {
    const answer = await now.resolveBoolean({ flagKey: 'disabled-boolean-flag' });
    equal([answer.value, answer.variant, answer.reason], [undefined, undefined, 'DISABLED']);
  });
  await check(`${kind}: all flags`, async () => {
    const all = await old.resolveAll({ context: {} });
    equal(all.flags['boolean-flag'].value, { case: 'boolValue', value: true });
  });
  await check(`${kind}: not found`, () =>
    fails(now.resolveBoolean({ flagKey: 'no-such-flag' }), Code.NotFound, 'Flag not found'));
  await check(`${kind}: type mismatch`, () =>
    fails(now.resolveString(ask), Code.InvalidArgument, 'Type mismatch error'));
  await check(`${kind}: parse error`, () =>
    fails(now.resolveInt({ flagKey: 'error-targeting-flag' }), Code.DataLoss, 'Error parsing input or configuration'));
  await check(`${kind}: selector`, async () => {
    const headers = { 'Flagd-Selector': 'flagSetId=selector-set' };
    const answer = await now.resolveString({ flagKey: 'selector-flag' }, { headers });
    equal(answer.metadata.flagSetId, 'selector-set');
  });
  await check(`${kind}: event stream begins with provider_ready`, async () => {
    const stop = new AbortController();
    for await (const event of now.eventStream({}, { signal: stop.signal })) {
      equal(event.type, 'provider_ready');
      break;
    }
    stop.abort();
  });
  await check(`${kind}: sync`, async () => {
    const all = await createClient(sync, transport).fetchAllFlags({});
    equal(JSON.parse(all.flagConfiguration).flags['boolean-flag'].defaultVariant, 'on');
  });
}
process.exit(failed > 0 ? 1 : 0);
