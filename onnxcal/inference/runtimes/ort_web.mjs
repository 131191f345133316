// onnxruntime-web (WebAssembly) as a process: a line of JSON in, then the bytes of its tensors; the same out.
// Arguments: the folder of the package. "load" takes a path; "run" takes tensors in the order that it names.
import { pathToFileURL } from "node:url";
import { readFileSync, writeSync } from "node:fs";
import { join } from "node:path";

console.log = console.info = console.debug = console.error; // stdout is for results

const module = await import(pathToFileURL(join(process.argv[2], "dist", "ort.node.min.mjs")));
const ort = module.default ?? module;
ort.env.wasm.numThreads = 1;
ort.env.logLevel = "fatal";

const ARRAYS = {
  float32: Float32Array, float64: Float64Array, int8: Int8Array, uint8: Uint8Array, int16: Int16Array,
  uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array, int64: BigInt64Array, uint64: BigUint64Array,
  bool: Uint8Array, float16: globalThis.Float16Array ?? Uint16Array,
};
let session, held = Buffer.alloc(0);
const chunks = process.stdin[Symbol.asyncIterator]();

async function more() {
  const { value, done } = await chunks.next();
  if (done) process.exit(0);
  held = Buffer.concat([held, value]);
}
async function line() {
  let end;
  while ((end = held.indexOf(10)) < 0) await more();
  const text = held.subarray(0, end).toString();
  held = held.subarray(end + 1);
  return JSON.parse(text);
}
async function bytes(count) {
  const parts = [held.subarray(0, count)];
  let have = parts[0].length;
  held = held.subarray(have);
  while (have < count) {
    const { value, done } = await chunks.next();
    if (done) process.exit(0);
    const part = value.subarray(0, count - have);
    parts.push(part);
    have += part.length;
    held = value.subarray(part.length);
  }
  return new Uint8Array(Buffer.concat(parts)).buffer; // aligned
}
function send(data) {
  for (let done = 0; done < data.length; ) {
    try { done += writeSync(1, data, done); } catch (error) { if (error.code !== "EAGAIN") throw error; }
  }
}
async function answer(request) {
  if (request.load) {
    const options = { executionProviders: ["wasm"], externalData: request.external, logSeverityLevel: 4 };
    session = await ort.InferenceSession.create(readFileSync(request.load), options);
    return [];
  }
  const feeds = {};
  for (const { name, type, dims, size } of request.tensors) {
    feeds[name] = new ort.Tensor(type, new ARRAYS[type](await bytes(size)), dims);
  }
  const results = await session.run(feeds);
  return session.outputNames.map((name) => results[name]);
}
for (;;) {
  const request = await line();
  try {
    const tensors = await answer(request);
    const data = tensors.map((t) => t.type === "string"
      ? Buffer.from(JSON.stringify(t.data)) : Buffer.from(t.data.buffer, t.data.byteOffset, t.data.byteLength));
    const heads = tensors.map((t, i) => ({ type: t.type, dims: t.dims, size: data[i].length }));
    send(Buffer.from(JSON.stringify({ tensors: heads }) + "\n"));
    data.forEach(send);
  } catch (error) {
    send(Buffer.from(JSON.stringify({ error: String(error?.message ?? error) }) + "\n"));
  }
}
