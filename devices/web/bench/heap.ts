/** Size and limit of WebAssembly's heap. */

const PAGE = 65536;

/**
 * Watch every WebAssembly memory that is created from now on; call this before onnxruntime-web is loaded.
 *
 * @param limit maximum bytes of a memory, to simulate a device with less memory.
 * @returns a function that returns the sum of their sizes in bytes. Memories never shrink: the sum is the peak.
 */
export function watchHeap(limit: number | null): () => number {
  const memories: WebAssembly.Memory[] = [];
  const most = limit === null ? Infinity : Math.floor(limit / PAGE);
  WebAssembly.Memory = class extends WebAssembly.Memory {
    constructor(descriptor: WebAssembly.MemoryDescriptor) {
      const maximum = Math.min(descriptor.maximum ?? PAGE, most);
      super(most === Infinity ? descriptor : { ...descriptor, initial: Math.min(descriptor.initial, maximum), maximum });
      memories.push(this);
    }
  };
  return () => memories.reduce((sum, memory) => sum + memory.buffer.byteLength, 0);
}
