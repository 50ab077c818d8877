/** JSON that the kernel has checked: this replaces `json.ts` where the kernel sees a manifest before it is parsed. */

import { utf8, type Bytes } from "./utf8.ts";

export const jsonObject = (content: Bytes) => JSON.parse(utf8(content)) as Record<string, unknown>;
