/** The heap of WebAssembly: how large it has grown, and an end to its growth. */

const PAGE = 65536;

/**
 * Watch every memory that is made from now on; call it before onnxruntime-web is loaded.
 *
 * @param limit bytes that a memory may grow to; a device with less is tried in this way.
 * @returns the sum of their sizes, in bytes. They never shrink: what it says is the peak.
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
