package org.edgerec;

import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Collection;
import java.util.Comparator;
import java.util.function.IntFunction;

/** Conversion between raw ids and bundle rows, directly from the tables: a search per block, no dictionary. */
final class Ids {
    private static final long FNV_BASIS = 0xCBF29CE484222325L;
    private static final long FNV_PRIME = 0x100000001B3L;

    private final String what;
    private final Index<Long> numbers;
    /** Null if ids are numbers or hashes. */
    private final Index<byte[]> texts;
    private final boolean hashed;

    /** Ids by row. */
    interface Index<T> {
        /** Return the row of an id; -1 if it is unknown. */
        int find(T id);

        T at(int row);
    }

    /** @param what "item" or "user". */
    Ids(Bundle bundle, String what, Manifest.RowsEntry entry) {
        this.what = what;
        String name = what + "_ids";
        boolean coded = bundle.manifest.major > 1;
        hashed = entry.ids.equals("hash64");
        if (entry.ids.equals("str")) {
            numbers = null;
            texts = coded ? new GroupedTexts(name, bundle.tables.section(name), entry)
                    : plain(entry, bundle.tables.texts(what + "_id")::at, Ids::order);
        } else {
            texts = null;
            numbers = entry.ids.equals("none") ? plain(entry, row -> (long) row, Long::compare)
                    : coded ? new BucketedIds(name, bundle.tables.section(name), entry)
                    : plain(entry, bundle.tables.numbers(name)::at, Long::compare);
        }
    }

    /** Return the rows of ids. Throws RequestException for an unknown one. */
    long[] rows(Collection<?> ids) {
        return rows(ids, OnUnknown.ERROR, null);
    }

    /** Return the rows of ids; unknown ones are left out, or a RequestException. */
    long[] rows(Collection<?> ids, OnUnknown onUnknown) {
        return rows(ids, onUnknown, "OnUnknown.SKIP leaves unknown ids of lists out");
    }

    private long[] rows(Collection<?> ids, OnUnknown onUnknown, String cure) {
        if (onUnknown == null) {
            throw new RequestException("expected OnUnknown.ERROR or OnUnknown.SKIP, got null");
        }
        if (ids == null) {
            throw new RequestException("expected a collection of " + what + " ids, got null; give an empty one");
        }
        long[] rows = new long[ids.size()];
        int n = 0;
        for (Object id : ids) {
            if (onUnknown == OnUnknown.ERROR || find(id) >= 0) {
                rows[n++] = row(id, cure);
            }
        }
        return Arrays.copyOf(rows, n);
    }

    /** Return the row of an id. Throws RequestException if it is unknown. */
    int row(Object id) {
        return row(id, null);
    }

    private int row(Object id, String cure) {
        int row = find(id);
        if (row < 0) {
            String said = id instanceof String ? "'" + id + "'" : String.valueOf(id);
            String other = what.equals("user") ? "popular() answers without one" : "has() says which ids are";
            throw new RequestException(
                    what + " " + said + " is not in the bundle; " + (cure == null ? other : cure));
        }
        return row;
    }

    /** Return the row of an id; -1 if it is unknown. */
    int find(Object id) {
        if (texts == null && !hashed) {
            return isWhole(id) ? numbers.find(((Number) id).longValue()) : -1;
        }
        byte[] text = id instanceof String ? encoded((String) id) : null;
        if (text == null) {
            return -1;
        }
        if (!hashed) {
            return texts.find(text);
        }
        int row = numbers.find(hash(text));
        // Answers are hashes, which requests take too.
        return row < 0 && ((String) id).matches("[0-9a-f]{16}")
                ? numbers.find(Long.parseUnsignedLong((String) id, 16)) : row;
    }

    /** Return true if an id is a whole number. */
    static boolean isWhole(Object id) {
        return id instanceof Long || id instanceof Integer || id instanceof Short || id instanceof Byte;
    }

    /** Return a row's id: a Long or a String. */
    Object id(int row) {
        return texts != null ? decoded(texts.at(row)) : hashed ? digits(numbers.at(row)) : (Object) numbers.at(row);
    }

    /** Return the hash of a text id as answers have it. Throws RequestException for half a character. */
    static String hash(String id) {
        byte[] text = id == null ? null : encoded(id);
        if (text == null) {
            throw new RequestException("'" + id + "' is no id: expected text of whole characters");
        }
        return digits(hash(text));
    }

    /** Return the 64-bit FNV-1a hash. */
    private static long hash(byte[] text) {
        long hash = FNV_BASIS;
        for (byte one : text) {
            hash = (hash ^ one & 0xFF) * FNV_PRIME;
        }
        return hash;
    }

    private static String digits(long hash) {
        return String.format("%016x", hash);
    }

    /** Find ids that ascend within each block of rows by a binary search. */
    private static <T> Index<T> plain(Manifest.RowsEntry entry, IntFunction<T> ids, Comparator<T> order) {
        return new Index<T>() {
            @Override
            public T at(int row) {
                return ids.apply(row);
            }

            @Override
            public int find(T id) {
                int end = 0;
                for (int count : entry.blocks) {
                    int low = end;
                    end += count;
                    int high = end;
                    while (low < high) {
                        int middle = (low + high) >>> 1;
                        if (order.compare(at(middle), id) < 0) {
                            low = middle + 1;
                        } else {
                            high = middle;
                        }
                    }
                    if (low < end && order.compare(at(low), id) == 0) {
                        return low;
                    }
                }
                return -1;
            }
        };
    }

    /** Encode text as UTF-8; null if it has half a character, which no id has. */
    private static byte[] encoded(String text) {
        try {
            ByteBuffer encoded = StandardCharsets.UTF_8.newEncoder().encode(CharBuffer.wrap(text));
            byte[] bytes = new byte[encoded.remaining()];
            encoded.get(bytes);
            return bytes;
        } catch (CharacterCodingException half) {
            return null;
        }
    }

    /** Decode UTF-8; invalid text is an error, never replaced by question marks. */
    static String decoded(byte[] text) {
        try {
            return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(text)).toString();
        } catch (CharacterCodingException error) {
            throw new BundleException("a text of the bundle is no UTF-8; export it again", error);
        }
    }

    /** Compare byte strings as unsigned bytes; a prefix comes before longer text. */
    private static int order(byte[] one, byte[] other) {
        for (int n = 0; n < Math.min(one.length, other.length); n++) {
            if (one[n] != other[n]) {
                return (one[n] & 0xFF) - (other[n] & 0xFF);
            }
        }
        return one.length - other.length;
    }
}
