package org.edgerec;

import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** A JSON parser (RFC 8259): Android and other Javas have none in common. The last of repeated keys counts. */
final class Json {
    private final String text;
    private int at;

    private Json(String text) {
        this.text = text;
    }

    /**
     * Parse JSON from untrusted bytes. Parsed values take far more memory than their text: values are counted first, by
     * their commas and brackets.
     *
     * @return like {@link #parse(String)}
     * @throws IllegalArgumentException no JSON, or more values, levels or members than allowed.
     */
    static Object parse(byte[] content) {
        int values = 0;
        for (byte letter : content) {
            values += letter == ',' || letter == '[' || letter == '{' ? 1 : 0;
        }
        if (values > Spec.JSON_VALUES) {
            throw new IllegalArgumentException("JSON of more than " + Spec.JSON_VALUES + " values");
        }
        try {
            return parse(StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(content)).toString());
        } catch (CharacterCodingException error) {
            throw new IllegalArgumentException("no UTF-8", error);
        }
    }

    /**
     * Parse JSON.
     *
     * @return null, Boolean, Long, Double, String, List or Map; whole numbers beyond 64 bits are Doubles.
     * @throws IllegalArgumentException no JSON, or too many levels or members.
     */
    static Object parse(String text) {
        Json json = new Json(text);
        Object value = json.value(0);
        json.space();
        if (json.at < text.length()) {
            throw json.wrong();
        }
        return value;
    }

    private Object value(int depth) {
        space();
        if (at == text.length()) {
            throw wrong();
        }
        switch (text.charAt(at)) {
            case '{':
                return object(depth + 1);
            case '[':
                return array(depth + 1);
            case '"':
                return string();
            case 't':
                return word("true", Boolean.TRUE);
            case 'f':
                return word("false", Boolean.FALSE);
            case 'n':
                return word("null", null);
            default:
                return number();
        }
    }

    private Map<String, Object> object(int depth) {
        Map<String, Object> fields = new LinkedHashMap<>();
        enter(depth);
        if (next('}')) {
            return fields;
        }
        do {
            space();
            String key = string();
            demand(':');
            fields.put(key, value(depth));
            if (fields.size() > Spec.JSON_MEMBERS) {
                throw wrong();
            }
        } while (next(','));
        demand('}');
        return fields;
    }

    private List<Object> array(int depth) {
        List<Object> values = new ArrayList<>();
        enter(depth);
        if (next(']')) {
            return values;
        }
        do {
            values.add(value(depth));
        } while (next(','));
        demand(']');
        return values;
    }

    /** Enter an object or a list at a nesting depth. */
    private void enter(int depth) {
        if (depth > Spec.JSON_LEVELS) {
            throw wrong();
        }
        at++;
    }

    private String string() {
        if (at == text.length() || text.charAt(at) != '"') {
            throw wrong();
        }
        StringBuilder found = new StringBuilder();
        for (at++; at < text.length(); at++) {
            char letter = text.charAt(at);
            if (letter == '"') {
                at++;
                return found.toString();
            }
            if (letter < ' ') {
                throw wrong();
            }
            found.append(letter == '\\' ? escaped() : letter);
        }
        throw wrong();
    }

    private char escaped() {
        int kind = ++at < text.length() ? "\"\\/bfnrtu".indexOf(text.charAt(at)) : -1;
        if (kind < 0) {
            throw wrong();
        }
        if (kind < 8) {
            return "\"\\/\b\f\n\r\t".charAt(kind);
        }
        int code = 0;
        for (int digit = 0; digit < 4; digit++) {
            int value = ++at < text.length() ? Character.digit(text.charAt(at), 16) : -1;
            if (value < 0) {
                throw wrong();
            }
            code = code * 16 + value;
        }
        return (char) code;
    }

    private Number number() {
        int start = at;
        while (at < text.length() && "+-.0123456789eE".indexOf(text.charAt(at)) >= 0) {
            at++;
        }
        String found = text.substring(start, at);
        if (!found.matches("-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][-+]?[0-9]+)?")) {
            throw wrong();
        }
        if (found.matches("-?[0-9]{1,19}")) {
            try {
                return Long.valueOf(found);
            } catch (NumberFormatException beyond) {
                return Double.valueOf(found);
            }
        }
        return Double.valueOf(found);
    }

    private Object word(String word, Object value) {
        if (!text.startsWith(word, at)) {
            throw wrong();
        }
        at += word.length();
        return value;
    }

    private boolean next(char wanted) {
        space();
        boolean found = at < text.length() && text.charAt(at) == wanted;
        at += found ? 1 : 0;
        return found;
    }

    private void demand(char wanted) {
        if (!next(wanted)) {
            throw wrong();
        }
    }

    private void space() {
        while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) {
            at++;
        }
    }

    private IllegalArgumentException wrong() {
        return new IllegalArgumentException("no JSON at letter " + at);
    }

    /** Quote text as a JSON string. */
    static String quoted(String text) {
        StringBuilder quoted = new StringBuilder("\"");
        for (char letter : text.toCharArray()) {
            if (letter < ' ' || letter == '"' || letter == '\\' || Character.isSurrogate(letter)) {
                quoted.append(String.format("\\u%04x", (int) letter));
            } else {
                quoted.append(letter);
            }
        }
        return quoted.append('"').toString();
    }
}
