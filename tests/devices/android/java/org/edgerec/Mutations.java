package org.edgerec;

import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;

/**
 * Damages bundles at random and asks them: each is refused by a named error, or answers as the whole one does. Half of
 * them get their sizes, sha256 and manifest made anew, so that what lies behind these checks is tried too; such a
 * bundle is another one, and may answer otherwise.
 *
 * <p>usage: java org.edgerec.Mutations VECTORS SCRATCH SEED COUNT
 */
public final class Mutations {
    private static final Object[] HOSTILE = {
        -1L, 0L, 1L, 1L << 31, 1L << 53, Long.MAX_VALUE, 1e300, null, "", "..", "../tables.bin", "/etc/passwd", "a\\b",
        new ArrayList<>(), Arrays.asList(0L), "float32", true
    };

    private final Random random;

    private Mutations(long seed) {
        random = new Random(seed);
    }

    public static void main(String[] arguments) throws IOException {
        File vectors = new File(arguments[0]);
        File place = new File(arguments[1], "bundle");
        Mutations mutations = new Mutations(Long.parseLong(arguments[2]));
        File[] bundles = new File(vectors, "bundles").listFiles();
        Arrays.sort(bundles);
        int refused = 0;
        int wrong = 0;
        for (int n = 0; n < Integer.parseInt(arguments[3]); n++) {
            File bundle = bundles[mutations.random.nextInt(bundles.length)];
            List<Object> known = known(new File(vectors, "requests/" + bundle.getName() + ".json"));
            String right = asked(bundle, known);
            Vectors.copy(bundle, place);
            boolean another = mutations.damage(place);
            try {
                String answer = asked(place, known);
                if (!another && !answer.equals(right)) {
                    System.out.println(bundle + " " + n + ": answers " + answer + " where " + right + " is right");
                    wrong++;
                }
            } catch (EdgeRecException named) {
                refused++;
            } catch (RuntimeException | Error other) {
                System.out.println(bundle + " " + n + ": " + other);
                other.printStackTrace(System.out);
                wrong++;
            }
        }
        System.out.println(refused + " refused, " + wrong + " wrong");
        System.exit(wrong > 0 ? 1 : 0);
    }

    /** The ids of a user and of some items, from the requests: answers of a bundle of hashes do not have them. */
    private static List<Object> known(File requests) throws IOException {
        Object user = null;
        List<?> items = new ArrayList<>();
        for (Object request : (List<?>) ((Map<?, ?>) Json.parse(Vectors.text(requests))).get("requests")) {
            Map<?, ?> asked = (Map<?, ?>) request;
            if (!asked.containsKey("error")) {
                user = asked.containsKey("user") ? asked.get("user") : user;
                for (String key : new String[] {"exclude", "items", "history"}) {
                    List<?> more = (List<?>) asked.get(key);
                    items = more != null && more.size() > items.size() ? more : items;
                }
            }
        }
        return Arrays.asList(user, items.get(0), items.get(1));
    }

    private static String asked(File place, List<Object> known) {
        try (Recommender model = Recommender.load(place)) {
            Object user = known.get(0);
            Object first = known.get(1);
            Object second = known.get(2);
            boolean users = model.metadata().users > 0;
            Request who = users ? Request.ofUser(user) : Request.ofHistory(Arrays.asList(first, second));
            List<Object> answers = new ArrayList<>();
            answers.add(model.recommend(who.k(5).exclude(Arrays.asList(second))));
            answers.add(Arrays.toString(model.score(who, Arrays.asList(first, second))));
            answers.add(model.metadata().graphs.contains("similar") ? model.similar(first, 3) : null);
            answers.add(model.title(first));
            answers.add(model.items().hashCode());
            return answers.toString();
        }
    }

    /** Change something; whether it is another bundle then, whole in itself. */
    private boolean damage(File place) throws IOException {
        File document = new File(place, Manifest.NAME);
        Object manifest = Json.parse(Vectors.text(document));
        if (random.nextBoolean()) {
            edit(manifest);
            Files.write(document.toPath(), json(manifest).getBytes(StandardCharsets.UTF_8));
            return true;
        }
        File[] files = place.listFiles((folder, name) -> !name.equals(Manifest.NAME) && !name.endsWith(".md"));
        Arrays.sort(files);
        File file = files[random.nextInt(files.length)];
        byte[] content = damaged(Files.readAllBytes(file.toPath()), Files.readAllBytes(files[0].toPath()));
        Files.write(file.toPath(), content);
        if (random.nextBoolean()) {
            return false;
        }
        for (Map<String, Object> entry : entries(manifest)) {
            if (file.getName().equals(entry.get("file"))) {
                entry.put("bytes", (long) content.length);
                entry.put("sha256", Signatures.sha256(content));
            }
        }
        Files.write(document.toPath(), json(manifest).getBytes(StandardCharsets.UTF_8));
        return true;
    }

    @SuppressWarnings("unchecked")
    private static List<Map<String, Object>> entries(Object manifest) {
        Map<String, Object> fields = (Map<String, Object>) manifest;
        List<Map<String, Object>> found = new ArrayList<>();
        found.add((Map<String, Object>) fields.get("tables"));
        for (Object graph : ((Map<String, Object>) fields.get("graphs")).values()) {
            found.add((Map<String, Object>) graph);
        }
        return found;
    }

    /** One value, anywhere, becomes a hostile one or is left out. */
    @SuppressWarnings("unchecked")
    private void edit(Object place) {
        Object hostile = HOSTILE[random.nextInt(HOSTILE.length)];
        boolean map = place instanceof Map;
        List<Object> keys = map ? new ArrayList<>(((Map<Object, Object>) place).keySet()) : null;
        int at = random.nextInt(map ? keys.size() : ((List<Object>) place).size());
        Object inside = map ? ((Map<Object, Object>) place).get(keys.get(at)) : ((List<Object>) place).get(at);
        boolean deeper = inside instanceof Map && !((Map<?, ?>) inside).isEmpty()
                || inside instanceof List && !((List<?>) inside).isEmpty();
        if (deeper && random.nextInt(4) > 0) {
            edit(inside);
        } else if (map) {
            ((Map<Object, Object>) place).put(keys.get(at), hostile);
            if (random.nextInt(5) == 0) {
                ((Map<Object, Object>) place).remove(keys.get(at));
            }
        } else {
            ((List<Object>) place).set(at, hostile);
        }
    }

    /** A bit, an end cut off, zeros, or bytes of another file. */
    private byte[] damaged(byte[] content, byte[] other) {
        int at = random.nextInt(content.length);
        switch (random.nextInt(4)) {
            case 0:
                content[at] ^= 1 << random.nextInt(8);
                return content;
            case 1:
                return Arrays.copyOf(content, at);
            case 2:
                Arrays.fill(content, at, Math.min(content.length, at + 1 + random.nextInt(64)), (byte) 0);
                return content;
            default:
                System.arraycopy(other, 0, content, at, Math.min(other.length, content.length - at));
                return content;
        }
    }

    static String json(Object value) {
        List<String> parts = new ArrayList<>();
        if (value instanceof Map) {
            for (Map.Entry<?, ?> one : ((Map<?, ?>) value).entrySet()) {
                parts.add(Json.quoted((String) one.getKey()) + ":" + json(one.getValue()));
            }
            return "{" + String.join(",", parts) + "}";
        }
        if (value instanceof List) {
            for (Object one : (List<?>) value) {
                parts.add(json(one));
            }
            return "[" + String.join(",", parts) + "]";
        }
        return value instanceof String ? Json.quoted((String) value) : String.valueOf(value);
    }
}
