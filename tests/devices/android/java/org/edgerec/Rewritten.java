package org.edgerec;

import static org.edgerec.Demands.demand;

import java.io.File;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;

/**
 * Vectors of version 1 whose ids were written again as version 2 has them, by an encoder of its own, answer as before.
 *
 * <p>usage: java org.edgerec.Rewritten VECTORS SCRATCH NAME ...
 */
public final class Rewritten {
    private Rewritten() {}

    public static void main(String[] arguments) throws Exception {
        List<String> names = Arrays.asList(arguments).subList(2, arguments.length);
        vectorsAnswerAsBefore(new File(arguments[0]), new File(arguments[1]), names);
        System.out.println(names.size() + " vectors answer as before");
        System.exit(0);
    }

    private static void vectorsAnswerAsBefore(File vectors, File scratch, List<String> names) throws Exception {
        for (String name : names) {
            File place = new File(scratch, "bundles/" + name);
            place.mkdirs();
            rewrite(new File(vectors, "bundles/" + name), place, false);
            new File(scratch, "requests").mkdirs();
            Files.write(new File(scratch, "requests/" + name + ".json").toPath(),
                    Files.readAllBytes(new File(vectors, "requests/" + name + ".json").toPath()));
            List<String> failures = new Vectors(scratch).failures(name);
            demand(failures.isEmpty() && Recommender.metadata(place).version.equals("2.0"), failures);
        }
        File before = new File(vectors, "bundles/titles");
        File hashed = new File(scratch, "hashed");
        rewrite(before, hashed, true);
        try (Recommender one = Recommender.load(before); Recommender other = Recommender.load(hashed)) {
            List<Object> hashes = new ArrayList<>();
            for (Object id : one.items()) {
                hashes.add(Recommender.idHash((String) id));
                demand(other.has(id) && one.title(id) == null == (other.title(id) == null), id);
            }
            demand(other.items().equals(hashes), other.items());
            Object user = new Ids(new Bundle(before, new Options()), "user", new Manifest(Files.readAllBytes(
                    new File(before, Manifest.NAME).toPath())).users).id(3);
            Request who = Request.ofUser(user).k(9).exclude(one.items().subList(0, 9));
            List<Recommendation> answers = other.recommend(who);
            demand(answers.size() == 9, answers);
            for (int n = 0; n < 9; n++) {
                Object wanted = Recommender.idHash((String) one.recommend(who).get(n).item);
                demand(answers.get(n).item.equals(wanted), answers);
            }
            demand(other.has(hashes.get(0)), hashes.get(0));
            for (Object none : new Object[] {7, "\ud800", "nobody", "0123456789abcdef"}) {
                demand(!other.has(none), none);
            }
        }
    }

    /** Write a bundle of version 1 as one of version 2, with the ids behind its tables; each hash in its own block. */
    @SuppressWarnings("unchecked")
    private static void rewrite(File from, File to, boolean hash) throws Exception {
        Vectors.copy(from, to);
        Bundle bundle = new Bundle(from, new Options());
        Map<String, Object> manifest = (Map<String, Object>) Json.parse(Vectors.text(new File(to, Manifest.NAME)));
        Map<String, Object> sections = (Map<String, Object>) manifest.get("sections");
        File tables = new File(to, bundle.manifest.tables.file);
        Coded.Bytes content = new Coded.Bytes();
        content.writeBytes(Files.readAllBytes(tables.toPath()));
        for (String side : new String[] {"item", "user"}) {
            Manifest.RowsEntry entry = side.equals("item") ? bundle.manifest.items : bundle.manifest.users;
            if (entry == null || entry.ids.equals("none")) {
                continue;
            }
            Map<String, Object> fields = (Map<String, Object>) manifest.get(side + "s");
            int[] blocks = entry.blocks;
            if (hash) {
                List<Object> single = new ArrayList<>();
                blocks = new int[entry.rows];
                Arrays.fill(blocks, 1);
                Arrays.stream(blocks).forEach(row -> single.add(Arrays.asList(8L, 1L)));
                fields.put("blocks", single);
                fields.put("ids", "hash64");
            }
            byte[] section = coded(new Ids(bundle, side, entry), blocks, entry.ids, hash);
            sections.remove(side + "_id_offsets");
            List<Long> shape = Arrays.asList((long) section.length);
            sections.put(side + "_ids", Arrays.asList((long) content.size(), "uint8", shape));
            content.writeBytes(section);
        }
        Files.write(tables.toPath(), content.toByteArray());
        Map<String, Object> file = (Map<String, Object>) manifest.get("tables");
        file.put("bytes", (long) content.size());
        file.put("sha256", Signatures.sha256(content.toByteArray()));
        manifest.put("version", "2.0");
        manifest.put("requires", new ArrayList<>());
        Files.write(new File(to, Manifest.NAME).toPath(), Mutations.json(manifest).getBytes(StandardCharsets.UTF_8));
    }

    private static byte[] coded(Ids ids, int[] blocks, String kind, boolean hash) {
        int row = 0;
        long[][] numbers = new long[blocks.length][];
        byte[][][] texts = new byte[blocks.length][][];
        for (int n = 0; n < blocks.length; n++) {
            numbers[n] = new long[blocks[n]];
            texts[n] = new byte[blocks[n]][];
            for (int at = 0; at < blocks[n]; at++, row++) {
                Object id = ids.id(row);
                texts[n][at] = String.valueOf(id).getBytes(StandardCharsets.UTF_8);
                if (hash) {
                    numbers[n][at] = Long.parseUnsignedLong(Recommender.idHash((String) id), 16);
                } else if (id instanceof Long) {
                    numbers[n][at] = (Long) id;
                }
            }
        }
        boolean grouped = kind.equals("str") && !hash;
        return grouped ? Coded.groups(texts, 16, new Random(0)) : Coded.buckets(numbers, hash ? 7 : 5);
    }
}
