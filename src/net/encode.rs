//! Encodes URLs as people write them for HTTP: characters outside ASCII are escaped.
//!
//! Guarantees: ASCII characters that are valid in a URL are unchanged, including `%`, so that nothing is encoded twice. Host
//! names become lowercase Punycode (RFC 3492, RFC 5891), other parts percent-encoded UTF-8 (RFC 3986). Does not normalize:
//! characters that Unicode can write in two ways stay different.

/// The URL with everything encoded that requires it, without its fragment. A string that is not a URL stays invalid.
pub fn encode_url(url: &str) -> String {
    let url = url.trim().split('#').next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (user, host) = authority.rsplit_once('@').map_or(("", authority), |(user, host)| (user, host));
    let mut out = format!("{scheme}://");
    if authority.len() > host.len() {
        percent(user, &mut out);
        out.push('@');
    }
    encode_host(host, &mut out);
    percent(path, &mut out);
    out
}

/// Percent-encodes characters that are not allowed in a URL.
fn percent(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80.. => {
                out.push_str(&format!("%{byte:02X}"));
            }
            _ => out.push(char::from(byte)),
        }
    }
}

/// Encodes a host and its port, if there is one.
fn encode_host(host: &str, out: &mut String) {
    if host.is_ascii() {
        out.push_str(host);
        return;
    }
    let (name, port) = host.split_at(host.rfind(':').unwrap_or(host.len()));
    for (index, label) in name.split('.').enumerate() {
        if index > 0 {
            out.push('.');
        }
        if label.is_ascii() {
            out.push_str(label);
        } else {
            out.push_str("xn--");
            punycode(&label.to_lowercase(), out);
        }
    }
    out.push_str(port);
}

/// The parameters of RFC 3492, section 5.
const BASE: u32 = 36;
const T_MIN: u32 = 1;
const T_MAX: u32 = 26;

/// Appends a label as Punycode. Labels that are too long are not rejected here: DNS servers do that.
fn punycode(label: &str, out: &mut String) {
    let letters: Vec<u32> = label.chars().map(u32::from).collect();
    let basic: String = label.chars().filter(char::is_ascii).collect();
    out.push_str(&basic);
    if !basic.is_empty() {
        out.push('-');
    }
    let (mut code, mut delta, mut bias) = (128u32, 0u32, 72u32);
    let first = basic.len() as u32;
    let mut done = first;
    while (done as usize) < letters.len() {
        let next = letters.iter().copied().filter(|letter| *letter >= code).min().unwrap_or(code);
        delta = delta.saturating_add((next - code).saturating_mul(done + 1));
        code = next;
        for &letter in &letters {
            delta = delta.saturating_add(u32::from(letter < code));
            if letter == code {
                push_number(delta, bias, out);
                bias = adapt(delta, done + 1, done == first);
                delta = 0;
                done += 1;
            }
        }
        delta = delta.saturating_add(1);
        code += 1;
    }
}

fn push_number(mut number: u32, bias: u32, out: &mut String) {
    let digit = |digit: u32| char::from(b"abcdefghijklmnopqrstuvwxyz0123456789"[(digit % BASE) as usize]);
    let mut k = BASE;
    loop {
        let threshold = k.saturating_sub(bias).clamp(T_MIN, T_MAX);
        if number < threshold {
            break;
        }
        out.push(digit(threshold + (number - threshold) % (BASE - threshold)));
        number = (number - threshold) / (BASE - threshold);
        k += BASE;
    }
    out.push(digit(number));
}

fn adapt(delta: u32, count: u32, is_first: bool) -> u32 {
    let mut delta = if is_first { delta / 700 } else { delta / 2 };
    delta = delta.saturating_add(delta / count);
    let mut k = 0;
    while delta > (BASE - T_MIN) * T_MAX / 2 {
        delta /= BASE - T_MIN;
        k += BASE;
    }
    k + (BASE - T_MIN + 1) * delta / (delta + 38)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_beyond_ascii_are_encoded_where_they_stand() {
        for (written, encoded) in [
            ("http://logs.example/a?b=c", "http://logs.example/a?b=c"),
            (
                "https://bücher.example:9200/lög/é?ü=ö",
                "https://xn--bcher-kva.example:9200/l%C3%B6g/%C3%A9?%C3%BC=%C3%B6",
            ),
            ("http://BÜCHER.example", "http://xn--bcher-kva.example"),
            ("http://例え.テスト/", "http://xn--r8jz45g.xn--zckzah/"),
            ("http://a/%C3%A9 b|c", "http://a/%C3%A9%20b%7Cc"),
            (" http://a/b#part ", "http://a/b"),
            ("http://ü:p@a", "http://%C3%BC:p@a"),
            ("http://[::1]:9200/ü", "http://[::1]:9200/%C3%BC"),
            ("no url", "no url"),
        ] {
            assert_eq!(encode_url(written), encoded, "{written}");
        }
    }

    /// Of RFC 3492, section 7.1.
    #[test]
    fn punycode_is_that_of_the_rfc() {
        for (label, code) in [
            ("他们为什么不说中文", "ihqwcrb4cv8a8dqg056pqjye"),
            ("pročprostěnemluvíčesky", "proprostnemluvesky-uyb24dma41a"),
            ("почемужеонинеговорятпорусски", "b1abfaaepdrnnbgefbadotcwatmq2g4l"),
            ("そのスピードで", "d9juau41awczczp"),
        ] {
            let mut out = String::new();
            punycode(label, &mut out);
            assert_eq!(out, code, "{label}");
        }
    }
}
