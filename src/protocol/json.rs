//! Writing JSON: texts escaped, numbers, behind what is there.
//!
//! Everything Fanfare says in JSON is put together with these few functions. Nothing here knows what is said.

/// What stands in a JSON string in place of the bytes that may not: those below 0x20 (RFC 8259 section 7).
const CONTROLS: [&[u8]; 0x20] = [
    br"\u0000", br"\u0001", br"\u0002", br"\u0003", br"\u0004", br"\u0005", br"\u0006", br"\u0007", br"\b",
    br"\t", br"\n", br"\u000b", br"\f", br"\r", br"\u000e", br"\u000f", br"\u0010", br"\u0011", br"\u0012",
    br"\u0013", br"\u0014", br"\u0015", br"\u0016", br"\u0017", br"\u0018", br"\u0019", br"\u001a",
    br"\u001b", br"\u001c", br"\u001d", br"\u001e", br"\u001f",
];

/// Appends `text`, which must be UTF-8, as a JSON string, quoted and escaped.
pub(crate) fn push_str(json: &mut Vec<u8>, text: &[u8]) {
    json.push(b'"');
    let mut rest = text;
    loop {
        let (plain, special) = rest.split_at(plain_begin(rest));
        json.extend_from_slice(plain);
        let Some((&byte, behind)) = special.split_first() else { break };
        match byte {
            b'"' => json.extend_from_slice(br#"\""#),
            b'\\' => json.extend_from_slice(br"\\"),
            control => json.extend_from_slice(CONTROLS[usize::from(control)]),
        }
        rest = behind;
    }
    json.push(b'"');
}

/// Appends a number.
pub(crate) fn push_u64(json: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut begin = digits.len();
    loop {
        begin -= 1;
        digits[begin] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    json.extend_from_slice(&digits[begin..]);
}

/// Appends a number in hexadecimal, in small letters, with zeros before it up to `width` digits (16 at most).
pub(crate) fn push_hex(json: &mut Vec<u8>, number: u64, width: usize) {
    let digits: [u8; 16] = std::array::from_fn(|nth| {
        let digit = (number >> (60 - 4 * nth)) as u8 & 0xf;
        if digit < 10 { b'0' + digit } else { b'a' - 10 + digit }
    });
    let zeros = (number.leading_zeros() / 4) as usize;
    json.extend_from_slice(&digits[zeros.min(16 - width)..]);
}

/// Appends `true` or `false`.
pub(crate) fn push_bool(json: &mut Vec<u8>, truth: bool) {
    json.extend_from_slice(if truth { b"true" } else { b"false" });
}

/// How many bytes from the begin of `text` on stand in a JSON string as they are.
fn plain_begin(text: &[u8]) -> usize {
    const CHUNK: usize = 32;
    let mut at = 0;
    // Each chunk is looked at whole, without an early exit, so that the compiler uses vectors.
    while let Some(chunk) = text[at..].first_chunk::<CHUNK>() {
        if chunk.iter().fold(false, |found, &byte| found | is_special(byte)) {
            break;
        }
        at += CHUNK;
    }
    let rest = &text[at..];
    at + rest.iter().position(|&byte| is_special(byte)).unwrap_or(rest.len())
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(text: &str) -> Vec<u8> {
        let mut json = Vec::new();
        push_str(&mut json, text.as_bytes());
        json
    }

    #[test]
    fn every_byte_that_must_be_is_escaped_wherever_it_stands() {
        for before in [0, 1, 30, 31, 32, 33, 70] {
            for byte in 0..0x80_u8 {
                let text = format!("{}{}tail", "é".repeat(before), char::from(byte));
                let json = written(&text);
                assert_eq!(json, serde_json::to_vec(&text).unwrap(), "{text:?}");
            }
        }
    }

    #[test]
    fn numbers_are_written_to_the_last() {
        for number in [0, 1, 9, 10, 99, 1_234_567_890, u64::MAX - 1, u64::MAX] {
            let mut json = b"x".to_vec();
            push_u64(&mut json, number);
            assert_eq!(json, format!("x{number}").into_bytes());
        }
    }

    #[test]
    fn hexadecimal_numbers_have_the_digits_they_need_and_those_asked_for() {
        for number in [0, 1, 9, 10, 15, 16, 0xabc_def0, u64::MAX >> 4, (u64::MAX >> 4) + 1, u64::MAX] {
            for width in [1, 5, 16] {
                let mut json = b"x".to_vec();
                push_hex(&mut json, number, width);
                assert_eq!(json, format!("x{number:0width$x}").into_bytes());
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_decodes_to_itself(text in "\\PC{0,100}|[\\x00-\\x7f]{0,100}|[a\"\\\\\n]{0,100}") {
            prop_assert_eq!(&serde_json::from_slice::<String>(&written(&text)).unwrap(), &text);
        }
    }
}
