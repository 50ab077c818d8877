/** As bundlers of edge workers import it: compiled, for `load(source, { kernel })`. */
declare const kernel: WebAssembly.Module;
export default kernel;
