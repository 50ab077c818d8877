package org.edgerec;

import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** Answers mutants with the Java runtime, a line for each; the protocol is in runtimes.py. */
public final class Drive {
    private Drive() {}

    public static void main(String[] arguments) throws Exception {
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        System.out.println("ready");
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            String[] request = line.split("\t");
            String[] said;
            try {
                said = new String[] {"answer", "", answer(request)};
            } catch (EdgeRecException named) {
                said = new String[] {"refused", named.getClass().getSimpleName(), String.valueOf(named.getMessage())};
            } catch (Throwable other) {
                StackTraceElement[] trace = other.getStackTrace();
                String where = trace.length > 0 ? " at " + trace[0] : "";
                said = new String[] {"unnamed", other.getClass().getSimpleName(), other.getMessage() + where};
            }
            System.out.println(request[0] + "\t" + quoted(said[0]) + "\t" + quoted(said[1]) + "\t" + quoted(said[2]));
        }
    }

    private static String answer(String[] request) throws Exception {
        File bundle = new File(request[1]);
        Options options = new Options();
        if (!request[3].equals("-")) {
            options.trust(new String(Files.readAllBytes(new File(request[3]).toPath()), StandardCharsets.UTF_8));
        }
        boolean patched = !request[2].equals("-");
        if (patched) {
            Patches.apply(bundle, Files.readAllBytes(new File(request[2]).toPath()), options);
        }
        List<Object> ids = new ArrayList<>();
        for (String id : request[5].split(",")) {
            ids.add(raw(id));
        }
        List<Object> items = ids.subList(1, ids.size());
        try (Recommender model = Recommender.load(bundle, options)) {
            Request who = request[4].equals("user") ? Request.ofUser(ids.get(0)) : Request.ofHistory(ids);
            List<Object> said = new ArrayList<>();
            said.add(model.recommend(who.k(3).exclude(items.subList(0, 1))));
            said.add(Arrays.toString(model.score(who, items)));
            said.add(model.title(items.get(0)));
            if (!patched && model.metadata().graphs.contains("similar")) {
                said.add(model.similar(items.get(0), 2));
            }
            if (!patched && model.metadata().graphs.contains("encode")) {
                said.add(Arrays.toString(model.encode(items)));
            }
            return said.toString();
        }
    }

    private static Object raw(String text) {
        if (text.charAt(0) == 'i') {
            return Long.parseLong(text.substring(1));
        }
        byte[] content = new byte[(text.length() - 1) / 2];
        for (int n = 0; n < content.length; n++) {
            content[n] = (byte) Integer.parseInt(text.substring(2 * n + 1, 2 * n + 3), 16);
        }
        return new String(content, StandardCharsets.UTF_8);
    }

    private static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char one : text.toCharArray()) {
            if (one < ' ' || one == '"' || one == '\\' || one > '~') {
                out.append(String.format("\\u%04x", (int) one));
            } else {
                out.append(one);
            }
        }
        return out.append('"').toString();
    }
}
