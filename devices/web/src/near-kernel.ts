/** The two builds of the kernel, which lie next to this module. */

/** A module with the relaxed dot product of bytes, which not every platform takes. */
const PROBE = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 10, 9, 1, 7, 0, 0, 253, 147, 2, 26, 11);

/** Return the place of the faster build that this platform takes. Bundlers find both, written like this. */
export const nearKernel = () =>
  WebAssembly.validate(PROBE)
    ? new URL("./edgerec-kernel-relaxed.wasm", import.meta.url)
    : new URL("./edgerec-kernel.wasm", import.meta.url);
