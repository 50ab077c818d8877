package org.edgerec;

import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.zip.Deflater;
import java.util.zip.Inflater;

/**
 * Applies patches to copies of bundles, whole ones and damaged ones. A whole one makes the new bundle to the byte, and
 * is undone. A damaged one, half of them with their sha256 made anew, is refused by a named error and changes nothing,
 * or makes the new bundle all the same: what was damaged did not count.
 *
 * <p>usage: java org.edgerec.Updates FOLDER SCRATCH SEED COUNT      (FOLDER/NAME/{old.bundle,new.bundle,patch})
 */
public final class Updates {
    private static final int HEAD = 52;
    private static final int SIGNED_FROM = 44;

    private Updates() {}

    public static void main(String[] arguments) throws Exception {
        File[] cases = new File(arguments[0]).listFiles();
        Arrays.sort(cases);
        File place = new File(arguments[1], "work");
        int wrong = unitsShareBytes() ? 0 : 1;
        for (File one : cases) {
            byte[] patch = Files.readAllBytes(new File(one, "patch").toPath());
            Vectors.copy(new File(one, "old.bundle"), place);
            try {
                Recommender old = Recommender.load(place);
                boolean done = Patches.apply(place, patch) && !Patches.apply(place, patch);
                boolean right = done && holds(place, new File(one, "new.bundle"));
                Recommender.load(place).close();
                old.items();
                old.close();
                Patches.undo(place);
                right &= holds(place, new File(one, "old.bundle"));
                Recommender.load(place).close();
                try {
                    Patches.undo(place);
                    right = false;
                } catch (PatchException nothing) {
                    right &= nothing.getMessage().contains("holds no bundle before this one");
                }
                if (!right) {
                    System.out.println(one + ": is not the new bundle, or is not undone");
                    wrong++;
                }
            } catch (EdgeRecException error) {
                error.printStackTrace(System.out);
                System.out.println(one);
                wrong++;
            }
        }
        byte[] newer = Files.readAllBytes(new File(cases[0], "patch").toPath());
        newer[10] = 1; // its minor version, which its header does not have
        Vectors.copy(new File(cases[0], "old.bundle"), place);
        try {
            Patches.apply(place, newer);
            wrong++;
        } catch (PatchException named) {
            wrong += named.getMessage().contains("its header is of another version") ? 0 : 1;
        }
        Random random = new Random(Long.parseLong(arguments[2]));
        int refused = 0;
        for (int n = 0; n < Integer.parseInt(arguments[3]); n++) {
            File one = cases[random.nextInt(cases.length)];
            byte[] patch = damaged(Files.readAllBytes(new File(one, "patch").toPath()), random);
            Vectors.copy(new File(one, "old.bundle"), place);
            try {
                Patches.apply(place, patch);
                if (!holds(place, new File(one, "new.bundle"))) {
                    System.out.println(one + " " + n + ": made another bundle");
                    wrong++;
                }
            } catch (PatchException named) {
                refused++;
                File old = new File(one, "old.bundle");
                if (!holds(place, old) || place.list().length != old.list().length) {
                    System.out.println(one + " " + n + ": changed something");
                    wrong++;
                }
            } catch (RuntimeException | Error other) {
                System.out.println(one + " " + n);
                other.printStackTrace(System.out);
                wrong++;
            }
        }
        System.out.println(refused + " refused, " + wrong + " wrong");
        System.exit(wrong > 0 ? 1 : 0);
    }

    /** Units of 2 and 4 bits by row and by column, laid out as the specification of values says. */
    private static boolean unitsShareBytes() {
        for (long bits : new long[] {2, 4}) {
            for (long byColumn : new long[] {0, 1}) {
                int shared = 8 / (int) bits;
                int rows = 3;
                int width = 5;
                int columns = (width + shared - 1) / shared;
                int bytes = byColumn == 1 ? rows * columns : (rows * width + shared - 1) / shared;
                byte[] section = new byte[bytes + 1]; // and one that reads as zero
                for (int row = 0; row < rows; row++) {
                    for (int at = 0; at < width; at++) {
                        int n = byColumn == 1 ? at * rows + row : row * width + at;
                        section[n % bytes] |= (row * 7 + at * 3) % (1 << bits) << bits * (n / bytes);
                    }
                }
                Map<String, Object> form = Map.of("blocks", List.of(List.of(3L, 5L, bits, byColumn, 0L)));
                PatchRows found = PatchRows.of(new PatchParts.Units(section, 1), form, Map.of());
                for (int row = 0; row < rows; row++) {
                    for (int at = 0; at < width; at++) {
                        long value = found.units.get(found.first[row] + at * found.step[row]);
                        if (value != (row * 7 + at * 3) % (1 << bits)) {
                            return false;
                        }
                    }
                }
                if (!Arrays.equals(found.packed(section.length), section)) {
                    return false;
                }
            }
        }
        return true;
    }

    private static boolean holds(File place, File wanted) throws IOException {
        for (File file : wanted.listFiles()) {
            File found = new File(place, file.getName());
            byte[] wished = Files.readAllBytes(file.toPath());
            if (!found.isFile() || !Arrays.equals(Files.readAllBytes(found.toPath()), wished)) {
                return false;
            }
        }
        return true;
    }

    private static byte[] damaged(byte[] patch, Random random) throws Exception {
        if (random.nextBoolean()) {
            int at = random.nextInt(patch.length);
            if (random.nextInt(3) == 0) {
                return Arrays.copyOf(patch, at);
            }
            patch[at] ^= 1 << random.nextInt(8);
            return patch;
        }
        // What lies behind the checksum: its stream, deflated again.
        Inflater inflater = new Inflater();
        inflater.setInput(patch, HEAD, patch.length - HEAD);
        byte[] stream = new byte[(int) ByteBuffer.wrap(patch).order(ByteOrder.LITTLE_ENDIAN).getLong(SIGNED_FROM)];
        inflater.inflate(stream);
        int header = 0;
        while (stream[header] != '\n') {
            header++;
        }
        for (int n = 0; n <= random.nextInt(3); n++) {
            stream[random.nextInt(random.nextBoolean() ? stream.length : header)] = (byte) random.nextInt(256);
        }
        byte[] made = random.nextInt(5) == 0 ? Arrays.copyOf(stream, random.nextInt(stream.length)) : stream;
        ByteArrayOutputStream signed = new ByteArrayOutputStream();
        signed.write(ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(made.length).array());
        Deflater deflater = new Deflater();
        deflater.setInput(made);
        deflater.finish();
        byte[] room = new byte[1 << 16];
        while (!deflater.finished()) {
            signed.write(room, 0, deflater.deflate(room));
        }
        ByteArrayOutputStream whole = new ByteArrayOutputStream();
        whole.write(patch, 0, 12);
        whole.write(Signatures.digest().digest(signed.toByteArray()));
        signed.writeTo(whole);
        return whole.toByteArray();
    }
}
