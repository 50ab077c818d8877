export type Bytes = Uint8Array<ArrayBuffer>;

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Decode UTF-8. @throws TypeError if the bytes are not UTF-8. */
export const utf8 = (text: Uint8Array) => decoder.decode(text);
