package org.edgerec;

import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Checks this runtime against the test vectors, as tests/vectors/check.py does, which is the one to read.
 *
 * <p>usage: java org.edgerec.Vectors VECTORS [NAME ...]
 */
public final class Vectors {
    private final File folder;
    private final File scratch;

    Vectors(File folder) throws IOException {
        this.folder = folder;
        scratch = Files.createTempDirectory("edgerec").toFile();
    }

    public static void main(String[] arguments) throws IOException {
        Vectors vectors = new Vectors(new File(arguments[0]));
        List<String> names = new ArrayList<>(Arrays.asList(arguments).subList(1, arguments.length));
        if (names.isEmpty()) {
            for (String file : new File(vectors.folder, "requests").list()) {
                names.add(file.replace(".json", ""));
            }
        }
        Collections.sort(names);
        int wrong = 0;
        for (String name : names) {
            for (String line : vectors.failures(name)) {
                System.out.println(line);
                wrong++;
            }
        }
        System.out.println(names.size() + " vectors, " + wrong + " failures");
        System.exit(wrong > 0 ? 1 : 0);
    }

    /** What is wrong with the answers to the requests of one vector: a line for each. */
    List<String> failures(String name) throws IOException {
        Map<?, ?> content = (Map<?, ?>) Json.parse(text(new File(folder, "requests/" + name + ".json")));
        File place = new File(folder, (String) content.get("bundle"));
        List<String> found = new ArrayList<>();
        try (Recommender model = Recommender.load(place)) {
            for (Object request : (List<?>) content.get("requests")) {
                String said = failure((Map<?, ?>) request, model, place);
                if (said != null) {
                    found.add(name + ": " + request + ": " + said);
                }
            }
        }
        return found;
    }

    private String failure(Map<?, ?> request, Recommender model, File place) throws IOException {
        String call = (String) request.get("call");
        if (cannotBeAsked(request)) {
            return null;
        }
        Object error = request.get("error");
        Object answer;
        try {
            answer = answer(call, request, model, place);
        } catch (EdgeRecException thrown) {
            Class<?> wanted = "request".equals(error) ? RequestException.class
                    : "bundle".equals(error) ? BundleException.class
                    : "signature".equals(error) ? SignatureException.class : null;
            return wanted != null && wanted.isInstance(thrown) ? null : thrown.toString();
        }
        if (error != null) {
            return "answered " + answer + " where the error '" + error + "' is expected";
        }
        switch (call) {
            case "load":
                return null;
            case "title":
                Object title = request.get("title");
                return title == null ? (answer == null ? null : answer + ", expected none")
                        : title.equals(answer) ? null : answer + ", expected " + title;
            case "score":
                return valuesFailure((float[]) answer, (List<?>) request.get("scores"), request);
            case "encode":
                return valuesFailure((float[]) answer, (List<?>) request.get("vector"), request);
            default:
                return rankingFailure((List<?>) answer, request);
        }
    }

    private Object answer(String call, Map<?, ?> request, Recommender model, File place) throws IOException {
        int k = request.containsKey("k") ? ((Number) request.get("k")).intValue() : 10;
        switch (call) {
            case "recommend":
                return model.recommend(asked(request).k(k));
            case "popular":
                return model.popular(limited(Request.ofNobody(), request).k(k));
            case "score":
                return model.score(asked(request), (List<?>) request.get("items"));
            case "similar":
                return model.similar(limited(Request.ofItem(request.get("item")), request).k(k));
            case "encode":
                return model.encode((List<?>) request.get("history"), onUnknown(request));
            case "title":
                return model.title(request.get("item"));
            default:
                load(request, place);
                return null;
        }
    }

    /** What types refuse: a vector that holds no numbers, and another name than those of OnUnknown. */
    private static boolean cannotBeAsked(Map<?, ?> request) {
        boolean numbers = true;
        if (request.get("vector") instanceof List) {
            for (Object value : (List<?>) request.get("vector")) {
                numbers &= value instanceof Number;
            }
        }
        return !numbers || "ignore".equals(request.get("on_unknown"));
    }

    /** The vectors ask both or neither of user and history on purpose, which requests here cannot say: nobody asks. */
    private static Request asked(Map<?, ?> request) {
        boolean one = 1 == (request.containsKey("user") ? 1 : 0) + (request.containsKey("history") ? 1 : 0)
                + (request.containsKey("vector") ? 1 : 0);
        Request made = !one ? Request.ofNobody()
                : request.containsKey("vector") ? Request.ofVector(floats((List<?>) request.get("vector")))
                : request.containsKey("user") ? Request.ofUser(request.get("user"))
                : Request.ofHistory((List<?>) request.get("history"));
        return limited(made, request);
    }

    private static float[] floats(List<?> numbers) {
        float[] values = new float[numbers.size()];
        for (int n = 0; n < values.length; n++) {
            values[n] = ((Number) numbers.get(n)).floatValue();
        }
        return values;
    }

    private static Request limited(Request made, Map<?, ?> request) {
        if (request.containsKey("exclude")) {
            made.exclude((List<?>) request.get("exclude"));
        }
        if (request.containsKey("rarity")) {
            made.rarity(((Number) request.get("rarity")).doubleValue());
        }
        return made.allow((List<?>) request.get("allow")).onUnknown(onUnknown(request));
    }

    private static OnUnknown onUnknown(Map<?, ?> request) {
        return "skip".equals(request.get("on_unknown")) ? OnUnknown.SKIP : OnUnknown.ERROR;
    }

    /** Open a bundle, or a copy of it in which a byte was changed. */
    private void load(Map<?, ?> request, File place) throws IOException {
        Options options = new Options();
        if (request.containsKey("trusted")) {
            for (Object key : (List<?>) request.get("trusted")) {
                options.trust(text(new File(folder, (String) key)));
            }
        }
        File opened = place;
        if (request.containsKey("flip")) {
            Map<?, ?> flip = (Map<?, ?>) request.get("flip");
            opened = new File(scratch, "bundle");
            copy(place, opened);
            for (File file : opened.listFiles()) {
                if (file.getName().startsWith((String) flip.get("file"))) {
                    byte[] content = Files.readAllBytes(file.toPath());
                    int at = ((Number) flip.get("byte")).intValue();
                    content[at < 0 ? content.length + at : at] ^= 1;
                    Files.write(file.toPath(), content);
                }
            }
        }
        Recommender.load(opened, options).close();
    }

    /** A folder as it is, with nothing of what was there. */
    static void copy(File from, File to) throws IOException {
        if (to.exists()) {
            for (File file : to.listFiles()) {
                Files.delete(file.toPath());
            }
        }
        to.mkdirs();
        for (File file : from.listFiles()) {
            Files.copy(file.toPath(), new File(to, file.getName()).toPath());
        }
    }

    static String text(File file) throws IOException {
        return new String(Files.readAllBytes(file.toPath()), StandardCharsets.UTF_8);
    }

    /** Group by group: the group's items in any order, each with its score. */
    private static String rankingFailure(List<?> answer, Map<?, ?> request) {
        double tolerance = ((Number) request.get("tolerance")).doubleValue();
        int k = ((Number) request.get("k")).intValue();
        int all = 0;
        for (Object group : (List<?>) request.get("ranking")) {
            all += ((List<?>) group).size();
        }
        if (answer.size() != Math.min(k, all)) {
            return answer.size() + " items where " + Math.min(k, all) + " are expected";
        }
        int at = 0;
        for (Object group : (List<?>) request.get("ranking")) {
            Map<Object, Double> expected = new HashMap<>();
            for (Object pair : (List<?>) group) {
                expected.put(((List<?>) pair).get(0), ((Number) ((List<?>) pair).get(1)).doubleValue());
            }
            int end = Math.min(answer.size(), at + expected.size());
            for (; at < end; at++) {
                Recommendation one = (Recommendation) answer.get(at);
                Double right = expected.remove(one.item);
                if (right == null) {
                    return one.item + " is not among " + group + ", or repeated";
                }
                if (!(Math.abs(one.score - right) <= tolerance)) {
                    return one.item + " scores " + one.score + ", expected " + right + " within " + tolerance;
                }
            }
        }
        return null;
    }

    private static String valuesFailure(float[] answer, List<?> expected, Map<?, ?> request) {
        double tolerance = ((Number) request.get("tolerance")).doubleValue();
        boolean close = answer.length == expected.size();
        for (int n = 0; close && n < answer.length; n++) {
            close = Math.abs(answer[n] - ((Number) expected.get(n)).doubleValue()) <= tolerance;
        }
        return close ? null : Arrays.toString(answer) + ", expected " + expected + " within " + tolerance;
    }
}
