package org.edgerec;

import static org.edgerec.Demands.demand;
import static org.edgerec.Demands.refuses;

import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Attributes of items are those that were exported, and damaged ones are refused.
 *
 * <p>usage: java org.edgerec.Attributes VECTORS SCRATCH BUNDLE EXPECTED      (EXPECTED: JSON, the `names` of the
 * attributes, each of the `items` with its attributes, and of some names and values the ids `with` them)
 */
public final class Attributes {
    private final File vectors;
    private final File scratch;
    private final File bundle;
    private final Map<?, ?> expected;

    private Attributes(String[] arguments) throws IOException {
        vectors = new File(arguments[0]);
        scratch = new File(arguments[1], "damaged");
        bundle = new File(arguments[2]);
        expected = (Map<?, ?>) Json.parse(Vectors.text(new File(arguments[3])));
    }

    public static void main(String[] arguments) throws Exception {
        Attributes attributes = new Attributes(arguments);
        attributes.answersAreThoseOfTheExport();
        attributes.requestsThatMakeNoSense();
        attributes.damagedManifestsAreRefused();
        attributes.damagedTextsAreRefusedWhenRead();
        System.out.println("all attributes are right");
        System.exit(0);
    }

    private void answersAreThoseOfTheExport() {
        demand(Recommender.metadata(bundle).attributes.equals(expected.get("names")), "names");
        try (Recommender model = Recommender.load(bundle)) {
            List<Object> items = model.items();
            Map<Object, Object> wanted = new HashMap<>();
            for (Object pair : (List<?>) expected.get("items")) {
                wanted.put(((List<?>) pair).get(0), ((List<?>) pair).get(1));
            }
            for (Object item : items) {
                // Entries of a list are compared in order.
                List<Object> found = new ArrayList<>(model.attributes(item).entrySet());
                demand(found.equals(new ArrayList<>(((Map<?, ?>) wanted.get(item)).entrySet())), item + ": " + found);
            }
            for (Object one : (List<?>) expected.get("with")) {
                String name = (String) ((List<?>) one).get(0);
                String value = (String) ((List<?>) one).get(1);
                Set<Object> with = new HashSet<>((List<?>) ((List<?>) one).get(2));
                List<Object> byRow = new ArrayList<>(items);
                byRow.removeIf(item -> !with.contains(item));
                List<Object> found = model.itemsWith(name, value);
                demand(found.equals(byRow) && found.size() == with.size(), name + " " + value);
                Request request = Request.ofHistory(items.subList(0, 1)).allow(found);
                model.recommend(request).forEach(answer -> demand(with.contains(answer.item), answer));
            }
        }
    }

    private void requestsThatMakeNoSense() throws Exception {
        try (Recommender model = Recommender.load(bundle)) {
            String names = String.join(", ", model.metadata().attributes);
            Object item = model.items().get(0);
            for (Object wrong : new Object[] {null, "nobody knows", 3.5, "\ud800"}) {
                refuses(RequestException.class, "is not in the bundle; has()", () -> model.attributes(wrong));
            }
            for (String wrong : new String[] {null, "", "title"}) {
                refuses(RequestException.class, "no attribute '" + wrong + "' of items; it has " + names,
                        () -> model.itemsWith(wrong, "x"));
            }
            for (String empty : new String[] {null, ""}) {
                refuses(RequestException.class, "must be a text that is not empty",
                        () -> model.itemsWith(model.metadata().attributes.get(0), empty));
            }
            try {
                model.attributes(item).clear();
                throw new AssertionError("attributes were changed");
            } catch (UnsupportedOperationException right) {
                demand(!model.attributes(item).isEmpty(), item);
            }
        }
        try (Recommender model = Recommender.load(new File(vectors, "bundles/titles"))) {
            demand(model.metadata().attributes.isEmpty(), model.metadata().attributes);
            demand(model.attributes(model.items().get(0)).isEmpty(), "attributes of a bundle without");
            refuses(RequestException.class, "no attribute 'genre' of items; it has none",
                    () -> model.itemsWith("genre", "x"));
        }
    }

    private void damagedManifestsAreRefused() throws Exception {
        List<Object> many = new ArrayList<>();
        for (int n = 0; n <= 64; n++) {
            many.add("name " + n);
        }
        for (Object names : new Object[] {null, "genre", Collections.emptyList(), Arrays.asList("genre", 1L),
            Arrays.asList("genre", null), Arrays.asList("genre", ""), Arrays.asList("genre", "genre"), many}) {
            damage("item_attributes", names, null, null);
            refuses(BundleException.class, "is damaged at 'item_attributes'", () -> Recommender.load(scratch));
        }
        damage("item_attributes", many.subList(0, 64), null, null);
        refuses(BundleException.class, "is damaged at 'attribute_", () -> Recommender.load(scratch));
        Map<?, ?> sections = (Map<?, ?>) manifest().get("sections");
        for (String name : new String[] {"attribute_1", "attribute_1_texts", "attribute_1_text_offsets"}) {
            List<?> right = (List<?>) sections.get(name);
            long length = (Long) ((List<?>) right.get(2)).get(0);
            List<Object> wrongs = new ArrayList<>(Arrays.asList(null, Arrays.asList(right.get(0), "int8", right.get(2)),
                    Arrays.asList(right.get(0), right.get(1), Arrays.asList(1L, length)),
                    Arrays.asList(right.get(0), right.get(1), Arrays.asList(1L << 40))));
            if (!name.endsWith("texts")) {
                wrongs.add(Arrays.asList(right.get(0), right.get(1), Arrays.asList(0L)));
            }
            if (name.equals("attribute_1")) {
                wrongs.add(Arrays.asList(right.get(0), right.get(1), Arrays.asList(length - 1)));
            }
            for (Object wrong : wrongs) {
                damage(null, null, name, wrong);
                refuses(BundleException.class, "is damaged at '" + name + "'", () -> Recommender.load(scratch));
            }
        }
    }

    /** Of sections that end too early: there is a number of no text, and a text that is not whole. */
    private void damagedTextsAreRefusedWhenRead() throws Exception {
        String[][] ends = {
            {"attribute_1_text_offsets", "the attributes of the bundle are damaged; export it again"},
            {"attribute_1_texts", "a text of the bundle leaves its section; export it again"},
        };
        for (String[] end : ends) {
            List<?> right = (List<?>) ((Map<?, ?>) manifest().get("sections")).get(end[0]);
            long length = (Long) ((List<?>) right.get(2)).get(0);
            damage(null, null, end[0], Arrays.asList(right.get(0), right.get(1), Arrays.asList(length - 1)));
            try (Recommender model = Recommender.load(scratch)) {
                String name = model.metadata().attributes.get(1);
                refuses(BundleException.class, end[1], () -> model.itemsWith(name, "x"));
                refuses(BundleException.class, end[1], () -> model.items().forEach(model::attributes));
            }
        }
    }

    @SuppressWarnings("unchecked") // JSON's keys are text
    private Map<String, Object> manifest() throws IOException {
        return (Map<String, Object>) Json.parse(Vectors.text(new File(bundle, Manifest.NAME)));
    }

    /** Copy the bundle with another field of its manifest, or another section: none if it is null. */
    @SuppressWarnings("unchecked")
    private void damage(String field, Object value, String section, Object place) throws IOException {
        Vectors.copy(bundle, scratch);
        Map<String, Object> manifest = manifest();
        if (field != null) {
            manifest.put(field, value);
        } else {
            Map<String, Object> sections = (Map<String, Object>) manifest.get("sections");
            sections.put(section, place);
            sections.values().remove(null);
        }
        byte[] content = Mutations.json(manifest).getBytes(StandardCharsets.UTF_8);
        Files.write(new File(scratch, Manifest.NAME).toPath(), content);
    }
}
