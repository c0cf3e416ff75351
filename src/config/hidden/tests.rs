//! Every form in which a secret can stand in a file, right and wrong, and everything else that stays readable.

use super::super::{Circumstances, Report, load};
use super::*;
use tailwater_shards::sim::SimEnv;

/// The beginning of every secret here, and what else may be seen of them.
const SECRET: &str = "hunter";

fn report(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Report {
    let here = Circumstances { data_dir: None, cpus: 2 };
    match load::<SimEnv>("case.yaml", text.as_bytes().to_vec(), lookup, &here) {
        Ok(loaded) => loaded.warnings,
        Err(refused) => refused.report,
    }
}

/// A file with these lines as keys of an `http` output.
fn file(lines: &str) -> String {
    let lines: String = lines.split('\n').map(|line| format!("    {line}\n")).collect();
    format!(
        "inputs:\n  app: {{type: stdin}}\npipelines:\n  main: {{inputs: [app], outputs: [out]}}\noutputs:\n  out:\n    type: http\n{lines}"
    )
}

fn masked(text: &str) -> String {
    report(text, &|_| None).text
}

/// That neither the masked file nor a message has a part of a secret in it.
fn check(text: &str) {
    let report = report(text, &|name| (name == "VALUE").then(|| "hunter-of-the-environment".to_owned()));
    let shown = report.render(false);
    assert!(!report.text.contains(SECRET), "{text}\nis shown as\n{}", report.text);
    assert!(!shown.contains(SECRET), "{text}\nis told as\n{shown}");
    for problem in &report.problems {
        let span = problem.span.unwrap_or_default();
        assert!(span.start <= span.end && span.end <= report.text.len(), "{span:?} of\n{}", report.text);
    }
}

#[test]
fn values_of_secret_keys_are_hidden_however_they_are_written() {
    for lines in [
        "auth: {bearer: hunter2}",
        "auth: {bearer: \"hunter2\"}",
        "auth: {bearer: 'hunter}2'}",
        "auth: {bearer: \"hun\\x74er}2\", api_key: \"hunter\\n\"}",
        "auth: {basic: {user: u, password: hunter2,hunter3}}",
        "auth: {basic: {user: u, password: hunter2,hunter3: hunter4, user: v}}",
        "auth: {basic: {password: hunter2, hunter3, user: u}}",
        "auth: {basic: {user: u, password: hunter2 #hunter3\n  }}",
        "auth:\n  bearer: hunter2 # it was hunter1",
        "auth:\n  bearer:\n    hunter2\n    hunter3",
        "auth:\n  bearer: |\n    hunter2\n    hunter3\ntimeout: 0s",
        "auth:\n  bearer: >-\n    hunter2\n\n    hunter3\ntimeout: 0s",
        "auth:\n  bearer: &hunter2",
        "auth:\n  bearer: &a hunter2\nheaders: {a: *a}",
        "auth:\n  bearer: !!str hunter2",
        "auth:\n  ? bearer\n  : hunter2",
        "auth: {bearer: {hunter2}}",
        "auth: {bearer: {hunter2: hunter3}}",
        "auth: {bearer: [hunter2, {hunter3: x}]}",
        "auth: {bearer: true, api_key: hunter2}",
        "auth: hunter2",
        "auth: {basic: hunter2}",
        "auth: {basic: {user: u, pasword: hunter2}}",
        "auth: {user: u, password: hunter2}",
        "auth: {token: hunter2}",
        "password: hunter2",
        "# password: hunter2\ntimeout: 0s # token: hunter3",
        "sasl.password: hunter2",
        "http_passwd: hunter2",
        "headers: {Authorization: hunter2, hunter3}",
        "headers: {X: \"hunter\\n2\"}\ntimeout: 0s",
        "headers: hunter2",
        "headers: [hunter2]",
        "tls: {password: hunter2}",
        "auth: {bearer: \"${NOT:-hunter2}\"}",
        "auth: {bearer: \"hunter ${VALUE}\"}",
        "auth: {bearer: \"${VALUE}\", api_key: \"${VALUE}\"}",
        "sinks: {a: {auth: {password: hunter2}}}",
    ] {
        check(&file(&format!("url: http://a/\n{lines}")));
    }
    check("secrets: &s {password: hunter2}\nsinks: {a: {auth: {basic: *s}}}\n");
    check("x: &s hunter2\noutputs: {a: {type: http, url: http://a/, auth: {bearer: *s}}}\n");
    check("x: &s {bearer: hunter2}\noutputs: {a: {type: http, url: http://a/, auth: {<<: *s}}}\n");
    let hash = |rest: &str| format!("pipelines: {{p: {{transforms: [{{hash: {{fields: [a], {rest}}}}}]}}}}\n");
    check(&hash("key: hunter2"));
    check(&hash("key: \"hunter2-hunter2-hunter2\", algorithm: xxh3"));
    check(
        "pipelines:\n  p:\n    transforms:\n      - if: a\n        then:\n          - hash:\n              key: hunter\n",
    );
}

#[test]
fn urls_show_no_more_than_their_host() {
    for lines in [
        "url: http://u:hunter2@a/",
        "url: \"http://u:hunter2@a/\"",
        "url: https://a/hunter2/x?token=hunter3#hunter4",
        "url: http://u:hunter 2@a/",
        "url: http://u:hun,hunter2@a/",
        "url: htp:/u:hunter2@a/",
        "url: u:hunter2",
        "url: http://u:p@a,http://u:hunter2@b",
        "url: http://u:p@a http://u:hunter2@b",
        "url: [http://u:hunter2@a/]",
        "url: {http://u:hunter2@a/}",
        "url: |\n  http://u:hunter2@a/",
        "url: http://u:x #hunter2@a/",
        "url: http://a/\nproxy: http://u:hunter2@p:1",
        "url: http://a/\nproxy: u:hunter2@p:1",
        "url: http://a/\nproxy: \"u:hunter\\u0032@p:x\"",
        "url: http://a/\nuri: http://u:hunter2@b/",
        "endpoints: [http://u:hunter2@a/, \"http://b/hunter3\"]",
        "endpoints:\n- http://u:hunter2@a/\n- http://v:hunter2@b",
        "url: http://${VALUE}:hunter2@a/",
        "url: \"http://${VALUE}@a/x\"\ntimeout: 0s",
    ] {
        check(&file(lines));
    }
    check(&file("{url: http://u:hun,hunter2@a/}").replace("    type: http\n", ""));
    check("outputs: {a: {type: http, url: http://u:x,hunter2@a/, proxy: http://u:x,hunter3@a/}}\n");
}

#[test]
fn of_a_file_that_is_no_yaml_whole_lines_are_hidden() {
    for lines in [
        "auth: {bearer: \"hunter2}",
        "auth: {bearer: hunter2",
        "auth: {basic: {user: u, password: hun}ter2}, api_key: hunter3}",
        "auth:\n  bearer: \"hunter2\n  hunter3",
        "auth:\n  bearer: |\n   hunter2\n  hunter3\n hunter4",
        "auth:\n  bearer: >\nhunter2\nhunter3",
        "auth:\n  bearer: >\n  hunter2: hunter3\n hunter4: hunter5",
        "auth:\n  bearer: hunter2: hunter3",
        "auth:\n  bearer: @hunter2",
        "auth:\n  bearer: *hunter2",
        "auth:\n  bearer: !hunter2",
        "auth:\n  bearer: !hunter2 x",
        "auth:\n  bearer: %hunter2",
        "auth:\n  bearer: `hunter2`",
        "auth:\n\tbearer: hunter2",
        "auth:\n  ? bearer\n  : \"hunter2",
        "auth: \"hunter2",
        "auth: [hunter2",
        "pasword: \"hunter2",
        "url: \"http://u:hunter2@a",
        "endpoints:\n- \"http://u:hunter2@a\n- http://v:hunter3@b",
        "link: \"http://u:hunter2@a",
        "headers:\n  X-Any: \"hunter2\n  X-Other: hunter3",
        "auth: {bearer: hunter2}\n---\na: b",
        "auth: {bearer: \"${NOT:-hunter2}",
    ] {
        check(&file(lines));
    }
    let mut bytes = file("auth: {bearer: hunter2}").into_bytes();
    bytes.push(0xff);
    let here = Circumstances { data_dir: None, cpus: 2 };
    let refused = load::<SimEnv>("case.yaml", bytes, &|_| None, &here).map(drop).expect_err("not UTF-8").report;
    assert!(!refused.text.contains(SECRET), "{}", refused.text);
}

/// Every single slip of the fingers in a file with secrets.
#[test]
fn no_slip_shows_a_secret() {
    let text = "outputs:\n  a:\n    type: http\n    url: http://a/\n    auth: {basic: {user: u, password: hunter}}\n    \
                proxy: \"http://u:hunter@p:1\"\n  b:\n    type: elasticsearch\n    auth:\n      bearer: |\n        hunter\n    \
                headers: {A: 'hunter'}\n";
    // Nobody can know a key whose name is torn apart where nothing else says what it is.
    let words = [SECRET, "bearer", "\n    headers"];
    let is_in =
        |at: usize, word: &str| text.match_indices(word).any(|(start, _)| at > start && at < start + word.len());
    let inside = |at: usize| words.iter().any(|word| is_in(at, word));
    let mut shown = Vec::new();
    for at in (0..text.len()).filter(|at| text.is_char_boundary(*at) && !inside(*at)) {
        let (before, behind) = text.split_at(at);
        let slips = ["\"", "'", "{", "}", "[", ",", ":", "#", " ", "\n", "\t", "|", "&", "*", "!", "@", "- "];
        let mut slipped: Vec<String> = slips.iter().map(|slip| format!("{before}{slip}{behind}")).collect();
        if !words.iter().any(|word| behind.starts_with(word)) {
            slipped.push(format!("{before}{}", &behind[1..]));
        }
        shown.extend(slipped.into_iter().filter(|text| report(text, &|_| None).text.contains(SECRET)));
    }
    assert_eq!(shown.len(), 0, "{}", shown.join("\n---\n"));
}

#[test]
fn what_is_no_secret_stays_readable() {
    let open = "inputs:\n  auth: {type: stdin}\n  key: {type: stdin}\npipelines:\n  password:\n    inputs: [auth, key]\n    \
                transforms:\n      - add: {password: x, token: {key: y}, link: \"http://a/b?c=d\"}\n      - rename: {api_key: key}\n      \
                - redact: {fields: [password]}\n      - replace: {field: a, pattern: \"https?://[^:]+:[^@]+@\", with: \"\"}\n    \
                outputs: [token]\noutputs:\n  token:\n    type: http\n    url: http://a:9200\n    auth: {basic: {user: u, password: \
                \"${NOT}\"}}\n    proxy: none\n    tls: {key_file: /etc/key.pem}\ntests:\n  secret:\n    events: [{password: x, \
                url: \"http://a/b\"}]\n    expect: [{event: {token: {key: y}}}]\n";
    assert_eq!(masked(open), open);
    assert_eq!(masked(&file("auth: {bearer: \"${NOT:?set it}\"}")), file("auth: {bearer: \"${NOT:?set it}\"}"));
    let broken = file("auth: {bearer: ${NAME}}\ntimeout: 1s");
    assert_eq!(masked(&broken), broken, "the mistake is shown");
    let broken = file("auth: {bearer: x\ntimeout: 1s\nretry: {max: 1s}");
    assert_eq!(masked(&broken), file("auth: {bearer: ***\ntimeout: 1s\nretry: {max: 1s}"));
}

#[test]
fn masks_keep_lines_and_move_places() {
    let text = file("auth: {bearer: a-long-hunter2}\nheaders: {a: |\n  x}\nurl: http://a/, timeout: 0s");
    assert_eq!(masked(&text).lines().count(), text.lines().count());
    let text = "outputs: {a: {type: http, auth: {bearer: a-long-hunter2}, url: http://a/long/path, timeout: 0s}}\n";
    let report = report(text, &|_| None);
    assert_eq!(report.text, "outputs: {a: {type: http, auth: {bearer: ***}, url: http://a/***, timeout: 0s}}\n");
    let places: Vec<&str> =
        report.problems.iter().filter_map(|problem| report.text.get(problem.span?.start..problem.span?.end)).collect();
    assert!(places.contains(&"0s"), "{places:?}");
}

#[test]
fn messages_repeat_no_secret() {
    let hidden = Hidden {
        ranges: vec![Span { start: 5, end: 12 }],
        values: vec!["hunter2".to_owned(), "12".to_owned()],
        literals: Vec::new(),
    };
    let told = |span, what: &str| {
        let problem = Problem::error(span, what).label(what).help(what);
        let mut report = Report { file: String::new(), text: "key: hunter2 # end".to_owned(), problems: vec![problem] };
        hidden.apply(&mut report);
        let problem = report.problems.remove(0);
        assert!(problem.label == problem.what && problem.help.as_ref() == Some(&problem.what), "{problem:?}");
        problem.what
    };
    let (here, elsewhere) = (Span { start: 5, end: 6 }, Span { start: 16, end: 18 });
    assert_eq!(told(elsewhere, "`hunter2` of 12 at http://u:p@a"), "`***` of 12 at http://***@a");
    assert_eq!(told(here, "the string `unte`, 12 and `key`"), "the string `***`, *** and `key`");
    assert_eq!(told(here, "the string `hun`ter`"), "the string `***`***`");
}
