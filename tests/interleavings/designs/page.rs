//! `docs/designs.md` between its lines `<!-- generated: ... -->` and `<!-- end -->`, and the same table for a terminal.

use super::{DESIGNS, Design, Failure, Size, Verdict, find};
use crate::cases::grouped;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/designs.md");

/// Ours in the steps that break the obvious design: the answer is not in Redis yet when the other request looks there.
const OURS: &[usize] = &[0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0];

#[test]
fn the_page_shows_what_the_search_finds() {
    println!("designs: {}      seconds", in_columns(&HEAD.map(str::to_owned)));
    for design in &DESIGNS {
        println!("designs: {}{:13.1}", in_columns(&design.row()), design.verdict().seconds);
    }
    let page = std::fs::read_to_string(PAGE).unwrap();
    for design in &DESIGNS {
        for kind in if design.holds { &["code"][..] } else { &["code", "diagram"] } {
            let is_shown = page.contains(&format!("<!-- generated: {kind} {} -->", design.name));
            assert!(is_shown, "docs/designs.md does not show the {kind} of {}", design.name);
        }
    }
    let found = fill(&page);
    if std::env::var_os("INTERLEAVINGS_WRITE").is_some() {
        std::fs::write(PAGE, found).unwrap();
    } else {
        let differs = page.lines().zip(found.lines()).find(|(page, found)| page != found);
        let advice = "write it again: scripts/interleavings.sh --designs --write";
        assert!(page == found, "docs/designs.md is not what the search finds: {differs:?}; {advice}");
    }
}

/// The page with all its generated parts as they should be.
fn fill(page: &str) -> String {
    let (mut text, mut lines) = (String::new(), page.lines());
    while let Some(line) = lines.next() {
        text += &format!("{line}\n");
        let Some(what) = line.strip_prefix("<!-- generated: ").and_then(|rest| rest.strip_suffix(" -->")) else {
            continue;
        };
        let (kind, name) = what.split_once(' ').unwrap_or((what, ""));
        let design = || find(name).unwrap_or_else(|| panic!("no design is called {name}"));
        text += &match kind {
            "table" => table(),
            "code" => format!("```rust\n{}\n```\n", design().shown_code()),
            "diagram" => format!("```mermaid\n{}```\n", design().diagram()),
            _ => panic!("nothing generates {kind}"),
        };
        let end = lines.by_ref().find(|line| *line == "<!-- end -->").expect("an end of what is generated");
        text += &format!("{end}\n");
    }
    text
}

const HEAD: [&str; 6] =
    ["design", "broken rule", "smallest case", "steps", "schedules that break a rule", "calls: first, repeat"];

fn table() -> String {
    let rows = DESIGNS.iter().map(|design| format!("| {} |\n", design.row().join(" | ")));
    format!("| {} |\n|---|---|---|---|---|---|\n{}", HEAD.join(" | "), rows.collect::<String>())
}

/// For a terminal.
fn in_columns(row: &[String; 6]) -> String {
    let [design, rule, case, steps, schedules, calls] = row.each_ref().map(|cell| cell.replace(['`', '*'], ""));
    format!("{design:35} {rule:59} {case:21} {steps:>8} {schedules:>27} {calls:>20}")
}

impl Design {
    fn row(&self) -> [String; 6] {
        let Verdict { size: Size { requests, troubles, .. }, found, failure, calls, .. } = self.verdict();
        let who = if self.is_worked_off() { "consumer" } else { "request" };
        let trouble = ["no trouble", "1 trouble", "2 troubles"][usize::from(*troubles)];
        let case = format!("{requests} {who}{}, {trouble}", if *requests == 1 { "" } else { "s" });
        let rule = failure.as_ref().map_or("**none**".into(), |failure| failure.rule.clone());
        let steps =
            failure.as_ref().map_or(format!("up to {}", found.longest), |failure| failure.schedule.len().to_string());
        let schedules = format!("{} of {}", grouped(found.broken), grouped(found.schedules));
        let calls = calls.map_or(String::new(), |(first, repeat)| format!("{first}, {repeat}"));
        [self.title.into(), rule, case, steps, schedules, calls]
    }

    /// What the page shows of its file.
    fn shown_code(&self) -> String {
        let code = self.code.rsplit_once("use super::kit::*;\n").map(|(_, code)| code);
        // Of ours, the function that the other designs replace.
        let ours = || {
            let (begin, end) = if self.is_worked_off() {
                ("    async fn settle", "\n    }\n")
            } else {
                ("pub async fn place_order", "\n}\n")
            };
            let code = &self.code[self.code.find(begin)?..];
            Some(&code[..code.find(end)? + end.len()])
        };
        let code = code.or_else(ours).expect("our function").trim_end();
        let indent = " ".repeat(code.len() - code.trim_start_matches(' ').len());
        code.lines()
            .map(|line| line.strip_prefix(&indent).unwrap_or(line))
            .collect::<Vec<_>>()
            .join("\n")
            .trim()
            .to_owned()
    }

    fn diagram(&self) -> String {
        if let Some(Failure { diagram, .. }) = &self.verdict().failure {
            return diagram.clone();
        }
        let (mut play, start) = self.case(Size { troubles: 0, requests: 2, tries: 1 }).play();
        let steps = play.steps(&start, OURS);
        play.draw(&steps, None)
    }
}

#[test]
fn the_russian_page_draws_the_same_schedule() {
    let page = include_str!("../../../docs/homework.ru.md");
    let arrows = |text: &str| -> Vec<String> {
        let lines = text.lines().map(str::trim).filter_map(|line| line.split_once(": "));
        lines.map(|(arrow, _)| arrow.to_owned()).collect()
    };
    let drawn = page.split("```mermaid\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a diagram");
    assert_eq!(arrows(drawn), arrows(&find("obvious").unwrap().diagram()));
}

#[test]
fn a_design_fits_on_a_screen() {
    for design in DESIGNS.iter().filter(|design| design.code.contains("use super::kit::*")) {
        let lines = design.code.lines().count();
        assert!(lines <= 40, "{}: {lines} lines", design.name);
    }
}
