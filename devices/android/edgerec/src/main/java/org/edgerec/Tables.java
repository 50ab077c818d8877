package org.edgerec;

import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.util.Arrays;
import java.util.BitSet;

/** The mapped tables file: it takes no heap, and the system can evict its pages. */
final class Tables {
    private final ByteBuffer mapped;
    private final Manifest manifest;

    /** @param file the tables file, whose size was compared with the manifest. */
    Tables(File file, Manifest manifest) {
        this.manifest = manifest;
        if (manifest.tables.bytes > Integer.MAX_VALUE) {
            throw new BundleException(
                    file + " has more than the 2 GiB that Java can map; export fewer dimensions, or int8");
        }
        try (FileInputStream stream = new FileInputStream(file)) {
            mapped = stream.getChannel().map(FileChannel.MapMode.READ_ONLY, 0, manifest.tables.bytes);
        } catch (IOException error) {
            throw new BundleException(file + " cannot be mapped: " + error.getMessage(), error);
        }
    }

    /** Return the whole file. */
    ByteBuffer content() {
        return mapped.duplicate();
    }

    /** A vector of whole numbers. */
    interface Numbers {
        long at(int n);
    }

    /** Return a section that Manifest has checked to be a vector of whole numbers. */
    Numbers numbers(String name) {
        ByteBuffer values = section(name);
        switch (manifest.sections.get(name).dtype) {
            case "int8":
                return n -> values.get(n);
            case "uint8":
                return n -> values.get(n) & 0xFF;
            case "int16":
                return n -> values.getShort(2 * n);
            case "uint16":
                return n -> values.getShort(2 * n) & 0xFFFF;
            case "int32":
                return n -> values.getInt(4 * n);
            case "uint32":
                return n -> values.getInt(4 * n) & 0xFFFFFFFFL;
            default:
                return n -> values.getLong(8 * n);
        }
    }

    /** Byte strings, stored as one blob with offsets. */
    static final class Texts {
        private final ByteBuffer blob;
        private final Numbers offsets;

        private Texts(ByteBuffer blob, Numbers offsets) {
            this.blob = blob;
            this.offsets = offsets;
        }

        byte[] at(int n) {
            long start = offsets.at(n);
            long end = offsets.at(n + 1);
            if (start < 0 || end < start || end > blob.capacity()) {
                throw new BundleException("a text of the bundle leaves its section; export it again");
            }
            byte[] found = new byte[(int) (end - start)];
            ByteBuffer view = blob.duplicate();
            view.position((int) start);
            view.get(found);
            return found;
        }
    }

    /** An attribute of items, whose different texts are stored once: a row has the number of its text. */
    static final class Attribute {
        private final Numbers rows;
        private final Texts texts;
        private final int count;

        private Attribute(Numbers rows, Texts texts, int count) {
            this.rows = rows;
            this.texts = texts;
            this.count = count;
        }

        /** Return the text of a row; empty if it has none. */
        String at(int row) {
            return text(number(row));
        }

        /** Return the number of the text of a row. */
        int number(int row) {
            long number = rows.at(row);
            if (number >= count) {
                throw new BundleException("the attributes of the bundle are damaged; export it again");
            }
            return (int) number;
        }

        /** Return the numbers of the texts that are a value, or have it among their parts, which | separates. */
        BitSet numbers(String value) {
            BitSet found = new BitSet();
            for (int n = 0; n < count; n++) {
                String text = text(n);
                found.set(n, text.equals(value) || Arrays.asList(text.split("\\|")).contains(value));
            }
            return found;
        }

        private String text(int number) {
            return Ids.decoded(texts.at(number));
        }
    }

    /** Return an attribute that Manifest has checked, by its number. */
    Attribute attribute(int n) {
        String name = "attribute_" + n;
        int count = (int) manifest.sections.get(name + "_text_offsets").shape[0] - 1;
        return new Attribute(numbers(name), texts(name + "_text"), count);
    }

    /** Return the bytes of a section. */
    ByteBuffer section(String name) {
        Manifest.Section section = manifest.sections.get(name);
        return bytes(section.offset, section.bytes);
    }

    /** Return the texts of 'item_id', 'user_id', 'item_title' or 'attribute_0_text'. */
    Texts texts(String name) {
        return new Texts(section(name + "s"), numbers(name + "_offsets"));
    }

    private ByteBuffer bytes(long offset, long length) {
        ByteBuffer view = mapped.duplicate();
        view.position((int) offset);
        view.limit((int) (offset + length));
        return view.slice().order(ByteOrder.LITTLE_ENDIAN);
    }
}
