package org.edgerec;

import static org.edgerec.Demands.demand;
import static org.edgerec.Demands.refuses;

import java.io.ByteArrayInputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/**
 * What apps rely on beside right answers, which are the vectors' matter.
 *
 * <p>usage: java org.edgerec.Behaviour VECTORS SCRATCH LARGE DAMAGED      (LARGE: a bundle with tables of 10 MiB and
 * more; DAMAGED: a folder of bundles whose answers are not finite)
 */
public final class Behaviour {
    private final File bundles;
    private final File scratch;
    private final File large;
    private final File damaged;

    private Behaviour(String[] arguments) {
        bundles = new File(arguments[0], "bundles");
        scratch = new File(arguments[1]);
        large = new File(arguments[2]);
        damaged = new File(arguments[3]);
    }

    public static void main(String[] arguments) throws Exception {
        Behaviour behaviour = new Behaviour(arguments);
        behaviour.tablesAreMappedAndNotCopied();
        behaviour.metadataReadsTheManifestAlone();
        behaviour.hostileManifestsAreRefused();
        behaviour.linksAreRefused();
        behaviour.aHistoryGrowsAndIsForgotten();
        behaviour.bundlesAreInstalledAsAWhole();
        behaviour.threadsAnswerAlikeAndNothingAfterClose();
        behaviour.requestsThatMakeNoSense();
        behaviour.numbersThatAreNotFiniteAreRefused();
        System.out.println("all is as apps rely on");
        System.exit(0);
    }

    /** Pages of the tables file are the file's own; Java's heap stays small. */
    private void tablesAreMappedAndNotCopied() throws Exception {
        long tables = new File(large, tablesOf(large)).length();
        demand(tables > 10 << 20, tables);
        Runtime runtime = Runtime.getRuntime();
        System.gc();
        long before = runtime.totalMemory() - runtime.freeMemory();
        try (Recommender model = Recommender.load(large)) {
            model.recommend(Request.ofUser(0));
            model.score(Request.ofUser(1), Arrays.asList(5, 6));
            System.gc();
            long grown = runtime.totalMemory() - runtime.freeMemory() - before;
            demand(grown < 2 << 20, "the heap grew by " + grown);
            long anonymous = 0;
            long resident = 0;
            boolean ours = false;
            for (String line : Files.readAllLines(new File("/proc/self/smaps").toPath())) {
                String[] words = line.split("\\s+");
                if (words[0].matches("[0-9a-f]+-[0-9a-f]+")) {
                    ours = line.contains("/tables-");
                } else if (ours && words[0].equals("Anonymous:")) {
                    anonymous += Long.parseLong(words[1]);
                } else if (ours && words[0].equals("Rss:")) {
                    resident += Long.parseLong(words[1]);
                }
            }
            demand(resident << 10 >= tables && anonymous == 0, resident + " KiB mapped, " + anonymous + " copied");
        }
    }

    private static String tablesOf(File folder) {
        return Bundle.openManifest(folder, new Options()).tables.file;
    }

    private void metadataReadsTheManifestAlone() throws Exception {
        File place = new File(scratch, "metadata");
        Vectors.copy(new File(bundles, "csr-int8-ials"), place);
        long bytes = 0;
        for (File file : place.listFiles()) {
            bytes += file.length();
        }
        demand(new File(place, tablesOf(place)).delete(), place);
        Metadata metadata = Recommender.metadata(place);
        demand(metadata.bytes == bytes, metadata.bytes);
        demand(metadata.layout.equals("csr") && metadata.precision.equals("int8"), metadata.layout);
        demand(metadata.items == 60 && metadata.users == 0, metadata.items);
        demand(metadata.graphs.equals(Arrays.asList("recommend", "score", "similar", "encode")), metadata.graphs);
        refuses(BundleException.class, " is missing; copy the bundle again", () -> Recommender.load(place));
        refuses(BundleException.class, "there is no manifest.json in it", () -> Recommender.load(scratch));
    }

    private void hostileManifestsAreRefused() throws Exception {
        File place = new File(scratch, "hostile");
        File titles = new File(bundles, "titles");
        String manifest = Vectors.text(new File(titles, "manifest.json"));
        String tables = tablesOf(titles);
        Manifest.Entry recommend = Bundle.openManifest(titles, new Options()).graphs.get("recommend").entry;
        String graph = "\"file\":\"" + recommend.file + "\",\"bytes\":";
        String one = "{" + graph + recommend.bytes + ",\"sha256\":\"" + recommend.sha256 + "\",\"tensors\":{}}";
        String[][] changes = {
            {"\"version\":\"1.0\"", "\"version\":\"3.0\"",
                "has version 3.0, this reader knows versions up to 2.x; update edgerec"},
            {"\"version\":\"1.0\"", "\"version\":\"2.0\"", "the section 'item_ids' is damaged"},
            {"{\"format\"", "{\"requires\":[\"tiles\",\"delta\"],\"format\"",
                "the bundle requires delta, tiles, which this reader does not know; update edgerec"},
            {"{\"format\"", "{\"requires\":[1],\"format\"", "is damaged at 'requires'"},
            {"{\"format\"", "{\"requires\":null,\"format\"", "is damaged at 'requires'"},
            {"{\"format\"", "{\"rollback_index\":-1,\"format\"", "is damaged at 'rollback_index'"},
            {"{\"format\"", "{\"rollback_index\":9007199254740992,\"format\"", "is damaged at 'rollback_index'"},
            {"{\"format\"", "{\"rollback_index\":true,\"format\"", "is damaged at 'rollback_index'"},
            {"\"ids\":\"str\"", "\"ids\":\"hash64\"", "is damaged at 'items'"},
            {"\"file\":\"" + recommend.file, "\"file\":\"manifest.json", "is damaged at 'manifest.json'"},
            {"edgerec.bundle", "zip", "describes no bundle of EdgeRec"},
            {"\"file\":\"" + tables, "\"file\":\"../" + tables, "is damaged at '../tables-"},
            {"\"file\":\"" + tables, "\"file\":\"/etc/passwd", "is damaged at '/etc/passwd'"},
            {"\"rows\":", "\"rows\":1", "is damaged at 'items'"},
            {"\"users\":{", "\"users\":[{", "describes no bundle"},
            {"{\"format\"", "[".repeat(100_000) + "{\"format\"", "describes no bundle"},
            {"{\"format\"", " ".repeat(4 << 20) + "{\"format\"", "has more than 4194304 bytes, which no manifest has"},
            {graph + recommend.bytes, graph + ((1 << 20) + 1), "is damaged at 'recommend'"},
            {"{\"format\"", "{\"x\":[" + "[],".repeat(300_000) + "[]],\"format\"", "describes no bundle"},
            {"{\"format\"", "{\"x\":" + "[".repeat(32) + "]".repeat(32) + ",\"format\"", "describes no bundle"},
            {"{\"format\"", "{\"x\":{" + members(4097, "0") + "},\"format\"", "describes no bundle"},
            {"\"graphs\":{", "\"graphs\":{" + members(17, one) + ",", "is damaged at 'graphs'"},
            {"\"sections\":{", "\"sections\":{" + members(257, "[0,\"int8\",[1]]") + ",", "is damaged at 'sections'"},
            {"\"other_files\":[", "\"other_files\":[" + one + ",", "is damaged at 'other_files'"},
            {"\"file\":\"" + tables, "\"file\":\"\\u001b[2J" + "x".repeat(9999), "damaged at '\\u001b[2Jxxx"},
            {"\"file\":\"" + tables, "\"file\":\"" + "x".repeat(9999), "xxx ... xxx"},
            {"\"file\":\"" + tables, "\"file\":\"." + tables, "is damaged at '.tables-"},
            {"\"version\":\"1.0\"", "\"version\":\"0\"", "is damaged at 'version'"},
            {"\"version\":\"1.0\"", "\"version\":1.0", "is damaged at 'version'"},
            {"\"version\":\"1.0\",", "", "is damaged at 'version'"},
            {"\"layout\":\"mixed\",\"precision\"", "\"precision\"", "is damaged at 'layout'"},
            {"\"precision\":\"fp32\",", "", "is damaged at 'precision'"},
            {"\"encoder\":null,", "", "is damaged at 'encoder'"},
            {"\"encoder\":null,", "\"encoder\":{},", "is damaged at 'empty_history'"},
            {"\"i\":[0,", "\"i\":[1,", "is damaged at 'i'"},
        };
        for (String[] change : changes) {
            Vectors.copy(titles, place);
            String changed = manifest.replace(change[0], change[1]);
            demand(!changed.equals(manifest), change[0]);
            Files.write(new File(place, "manifest.json").toPath(), changed.getBytes(StandardCharsets.UTF_8));
            refuses(BundleException.class, change[2], () -> Recommender.load(place));
        }
    }

    /** Members of an object, so many, each of this value. */
    private static String members(int count, String value) {
        StringBuilder made = new StringBuilder("\"0\":" + value);
        for (int n = 1; n < count; n++) {
            made.append(",\"").append(n).append("\":").append(value);
        }
        return made.toString();
    }

    private void linksAreRefused() throws Exception {
        File place = new File(scratch, "links");
        File titles = new File(bundles, "titles");
        String tables = tablesOf(titles);
        Vectors.copy(titles, place);
        Files.delete(new File(place, tables).toPath());
        Files.createSymbolicLink(new File(place, tables).toPath(), new File(titles, tables).getAbsoluteFile().toPath());
        refuses(BundleException.class, "is a link; copy the file itself", () -> Recommender.load(place));
    }

    private void aHistoryGrowsAndIsForgotten() throws Exception {
        File store = new File(scratch, "private/history.json");
        try (Recommender model = Recommender.load(new File(bundles, "mixed-fp32-linear"))) {
            List<Object> items = model.items();
            Session session = model.session(store);
            demand(session.recommend(1).get(0).score == 0, "an empty history scores nothing");
            for (int n : new int[] {0, 1, 0, 2}) {
                session.add(items.get(n));
            }
            List<Object> expected = items.subList(0, 3);
            Session again = model.session(store);
            demand(again.items().equals(expected) && session.items().equals(expected), again.items());
            String right = model.recommend(Request.ofHistory(expected).k(5)).toString();
            demand(again.recommend(5).toString().equals(right), right);
            demand(Arrays.equals(again.score(items), model.score(Request.ofHistory(expected), items)), "scores");
            String mode = PosixFilePermissions.toString(Files.getPosixFilePermissions(store.toPath()));
            demand(mode.equals("rw-------"), mode);
            refuses(RequestException.class, "is not in the bundle", () -> again.add("nobody knows"));
            again.forget(items.get(1));
            demand(model.session(store).items().equals(Arrays.asList(items.get(0), items.get(2))), again.items());
            again.forget();
            demand(!store.exists() && store.getParentFile().list().length == 0, "the store is deleted");
            demand(model.session(store).items().isEmpty(), "nothing is left");
            Files.write(store.toPath(), "{\"format\": \"other\"}".getBytes(StandardCharsets.UTF_8));
            refuses(MissingException.class, "it is no history", () -> model.session(store));
            String kept = "{\"format\":\"edgerec.history\",\"version\":1,"
                    + "\"items\":[\"\u00e9\",{\"int\":\"1152921504606846977\"},7]}";
            Files.write(store.toPath(), kept.getBytes(StandardCharsets.UTF_8));
            Session other = model.session(store);
            other.forget(7.9); // no id, and not 7
            demand(other.items().equals(Arrays.asList("\u00e9", 1152921504606846977L, 7L)), other.items());
            other.forget(7);
            demand(Vectors.text(store).equals(kept.replace(",7", "")), Vectors.text(store));
        }
        aHistoryShowsNoMoreThanItsLimit(store);
        try (Recommender model = Recommender.load(new File(bundles, "titles"))) {
            refuses(RequestException.class, "this bundle has users: give a user", () -> model.session());
        }
    }

    /** Of a file that Python, whose limit is the app's, wrote with more. */
    private void aHistoryShowsNoMoreThanItsLimit(File store) throws Exception {
        StringBuilder numbers = new StringBuilder("0");
        for (int n = 1; n < Session.LIMIT + 5; n++) {
            numbers.append(',').append(n);
        }
        String kept = "{\"format\":\"edgerec.history\",\"version\":1,\"items\":[" + numbers + "]}";
        Files.write(store.toPath(), kept.getBytes(StandardCharsets.UTF_8));
        try (Recommender model = Recommender.load(new File(bundles, "no-ids"))) {
            Session session = model.session(store);
            demand(session.items().size() == Session.LIMIT && session.items().get(0).equals(5L), session.items().size());
            session.forget(2); // which it does not show, and the file holds
            demand(model.session(store).items().size() == Session.LIMIT, "the limit");
            demand(!Vectors.text(store).contains("[0,1,2,"), "what was forgotten is in the file");
        }
    }

    /** Users, vectors and cosines that a damaged bundle has: no answer is made of them. */
    private void numbersThatAreNotFiniteAreRefused() throws Exception {
        String said = "the bundle answers with what no bundle does";
        Options unverified = new Options().verify(false);
        for (String name : new String[] {"nan", "beyond"}) {
            try (Recommender model = Recommender.load(new File(damaged, name), unverified)) {
                Request who = Request.ofUser(1).k(3);
                refuses(BundleException.class, said, () -> model.recommend(who));
                refuses(BundleException.class, said, () -> model.recommend(who.exclude(Arrays.asList(1, 2))));
                refuses(BundleException.class, said, () -> model.score(who, Arrays.asList(4)));
                refuses(BundleException.class, said, () -> model.recommend(who.allow(Arrays.asList(4, 5))));
            }
        }
        try (Recommender model = Recommender.load(new File(damaged, "nan"), unverified)) {
            refuses(BundleException.class, said, () -> model.similar(1, 3));
        }
        try (Recommender model = Recommender.load(new File(damaged, "encoded"), unverified)) {
            Request who = Request.ofHistory(Arrays.asList(1));
            refuses(BundleException.class, said, () -> model.encode(Arrays.asList(1)));
            refuses(BundleException.class, said, () -> model.recommend(who));
            refuses(BundleException.class, said, () -> model.score(who, Arrays.asList(2)));
        }
    }

    private void bundlesAreInstalledAsAWhole() throws Exception {
        File place = new File(scratch, "installed");
        File first = new File(bundles, "mixed-int8-linear");
        File second = new File(bundles, "csr-int8-users");
        Bundles.install(first, place);
        Bundles.install(first, place);
        demand(names(place).equals(names(first)), names(place));
        // Damaged where it comes from: refused, and what is there answers on.
        Bundles.Source cut = name -> name.startsWith("tables")
                ? new ByteArrayInputStream(new byte[10]) : new FileInputStream(new File(second, name));
        String told = "is not the file that manifest.json describes";
        refuses(BundleException.class, told, () -> Bundles.install(cut, place));
        Recommender.load(place).close();
        refuses(MissingException.class, "No such file", () -> Bundles.install(new File(scratch, "nowhere"), place));
        Bundles.install(second, place);
        demand(names(place).equals(names(second)), names(place));
        // Damaged where it is: mended.
        File tables = new File(place, tablesOf(place));
        byte[] content = Files.readAllBytes(tables.toPath());
        content[0] ^= 1;
        Files.write(tables.toPath(), content);
        refuses(BundleException.class, "sha256 differs", () -> Recommender.load(place));
        Bundles.install(second, place);
        Recommender.load(place).close();
    }

    private static List<String> names(File folder) {
        List<String> names = new ArrayList<>(Arrays.asList(folder.list()));
        Collections.sort(names);
        return names;
    }

    private void threadsAnswerAlikeAndNothingAfterClose() throws Exception {
        Options options = new Options().verify(false).threads(2);
        Recommender model = Recommender.load(new File(bundles, "csc-int8-ials"), options);
        List<Object> items = model.items();
        Request request = Request.ofHistory(items.subList(0, 4)).exclude(items.subList(8, 9)).k(9);
        String right = model.recommend(request).toString();
        ExecutorService threads = Executors.newFixedThreadPool(4);
        List<Future<Boolean>> answers = new ArrayList<>();
        for (int n = 0; n < 200; n++) {
            answers.add(threads.submit((Callable<Boolean>) () -> model.recommend(request).toString().equals(right)));
        }
        for (Future<Boolean> answer : answers) {
            demand(answer.get(), "an answer differs");
        }
        // Closed while it is asked: every call is answered, or told so.
        answers.clear();
        for (int n = 0; n < 200; n++) {
            answers.add(threads.submit(() -> {
                try {
                    return model.recommend(request).toString().equals(right);
                } catch (RequestException closed) {
                    return closed.getMessage().startsWith("this bundle was closed");
                }
            }));
        }
        model.close();
        for (Future<Boolean> answer : answers) {
            demand(answer.get(), "an answer differs");
        }
        threads.shutdown();
        refuses(RequestException.class, "this bundle was closed; load it again", () -> model.recommend(request));
        model.close();
    }

    private void requestsThatMakeNoSense() throws Exception {
        try (Recommender model = Recommender.load(new File(bundles, "titles"))) {
            Object item = model.items().get(0);
            refuses(RequestException.class, "give either a user or a history",
                    () -> model.recommend(Request.ofUser(null)));
            refuses(RequestException.class, "k must be a whole number in 1..60, got 0",
                    () -> model.recommend(Request.ofUser("a").k(0)));
            for (Object wrong : new Object[] {3.5, 1.0f, Double.NaN, true, "\ud800", Arrays.asList("a"), new Object()}) {
                refuses(RequestException.class, "is not in the bundle; popular()", () -> model.recommend(Request.ofUser(wrong)));
                List<?> wrongs = Arrays.asList(item, wrong);
                refuses(RequestException.class, "is not in the bundle; OnUnknown.SKIP",
                        () -> model.recommend(Request.ofUser("a").exclude(wrongs)));
                refuses(RequestException.class, "is not in the bundle; OnUnknown.SKIP",
                        () -> model.recommend(Request.ofUser("a").allow(wrongs)));
                refuses(RequestException.class, "is not in the bundle; has()",
                        () -> model.score(Request.ofUser("a"), wrongs));
                refuses(RequestException.class, "is not in the bundle; has()", () -> model.title(wrong));
                demand(!model.has(wrong), wrong);
            }
            refuses(RequestException.class, "is not in the bundle", () -> model.title(null));
            refuses(RequestException.class, "expected a request, got null", () -> model.recommend(null));
            refuses(RequestException.class, "expected a request, got null", () -> model.score(null, Arrays.asList(item)));
            for (int threads : new int[] {-1, 1025}) {
                refuses(RequestException.class, "threads must be a whole number in 0..1024, got " + threads,
                        () -> new Options().threads(threads));
            }
            refuses(RequestException.class, "expected a collection of item ids, got null",
                    () -> model.recommend(Request.ofUser("a").exclude(null)));
            refuses(RequestException.class, "no 'similar' graph: it was exported without",
                    () -> model.similar(item, 1));
            refuses(RequestException.class, "a trusted key is no ed25519 key", () -> new Options().trust("no key"));
            demand(model.score(Request.ofUser("a"), Collections.emptyList()).length == 0, "no scores of nothing");
        }
    }
}
