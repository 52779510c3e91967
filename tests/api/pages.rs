//! Pages for people: every problem has one, and every page is safe and cached.

use std::collections::BTreeSet;

use super::*;
use base64::Engine;
use order::problem::Problem;
use sha2::{Digest, Sha256};

fn text(response: &Response<Bytes>) -> &str {
    std::str::from_utf8(response.body()).unwrap()
}

#[tokio::test]
async fn every_problem_leads_to_its_page_and_the_list_names_it() {
    let app = TestApp::default();
    let examples = Problem::examples();
    let entries = include_str!("../../src/problem/catalogue.rs").matches(" => entry(").count();
    assert_eq!(entries, examples.len(), "each entry of the catalogue has an example");
    assert!(examples.is_sorted_by_key(|example| example.entry().status));
    let slugs: BTreeSet<_> = examples.iter().map(|example| example.entry().slug).collect();
    assert_eq!(slugs.len(), examples.len());

    let list = app.get("/problems/").await;
    let list_without_slash = app.get("/problems").await;
    for example in examples {
        let entry = example.entry();
        let document = example.into_response();
        let path = json_of(&document)["type"].as_str().unwrap().to_owned();
        let page = app.get(&path).await;
        assert_eq!(
            (page.status().as_u16(), header(&page, "content-type")),
            (200, "text/html; charset=utf-8"),
            "{path}"
        );
        for part in [entry.slug, entry.title, entry.meaning, entry.retry, entry.status.as_str(), text(&document)] {
            assert!(text(&page).contains(&part.replace('<', "&lt;")), "{part} on {path}");
        }
        // Relative: they also work behind a proxy's prefix.
        for (list, base) in [(&list, ""), (&list_without_slash, "problems/")] {
            let link = format!("<a href=\"{base}{}\">{}</a>", entry.slug, entry.title);
            assert!(text(list).contains(&link), "{path}");
        }
    }
    assert_problem(&app.get("/problems/nothing").await, 404, "not-found");
}

#[tokio::test]
async fn pages_are_kept_by_the_browser_and_run_nothing_foreign() {
    let app = TestApp::default();
    let mut tags = BTreeSet::new();
    for path in ["/", "/problems/", "/problems/internal", "/openapi.yaml"] {
        let page = app.get(path).await;
        let etag = header(&page, "etag");
        assert!(tags.insert(etag.to_owned()), "{path}");
        assert_eq!((header(&page, "cache-control"), header(&page, "x-content-type-options")), ("no-cache", "nosniff"));
        if path != "/openapi.yaml" {
            assert!(header(&page, "content-security-policy").starts_with("default-src 'none';"), "{path}");
            assert_eq!(header(&page, "referrer-policy"), "no-referrer");
        }
        let kept = app.send(Request::get(path).header("If-None-Match", etag).body(Bytes::new()).unwrap()).await;
        assert_eq!((kept.status().as_u16(), header(&kept, "etag"), kept.body().len()), (304, etag, 0));
    }
}

#[tokio::test]
async fn the_first_page_names_every_route_and_no_other() {
    let app = TestApp::default();
    let page = app.get("/").await;
    let contract = openapi::contract();
    for (path, operations) in contract["paths"].as_object().unwrap() {
        for method in
            operations.as_object().unwrap().keys().filter(|name| ["get", "post", "patch"].contains(&name.as_str()))
        {
            let route = format!("<code>{} {path}</code>", method.to_uppercase());
            assert!(path == "/" || text(&page).contains(&route), "{route}");
        }
    }
    let (_, routes) = text(&page).split_once("id=\"routes\"").unwrap();
    let named = routes.split("<code>").skip(1).filter_map(|rest| rest.split("</code>").next());
    for (method, path) in named.filter_map(|text| text.split_once(" /")) {
        let path = format!("/{path}");
        assert!(contract["paths"][&path].get(method.to_lowercase()).is_some(), "{method} {path}");
    }
}

#[tokio::test]
async fn the_policy_names_the_hash_of_the_style_and_of_the_script() {
    let page = TestApp::default().get("/").await;
    let policy = header(&page, "content-security-policy");
    for (directive, element) in [("style-src", "style"), ("script-src", "script")] {
        let (_, rest) = text(&page).split_once(&format!("<{element}>")).unwrap();
        let (file, _) = rest.split_once(&format!("</{element}>")).unwrap();
        let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(file));
        let expected = format!("{directive} 'sha256-{hash}'");
        assert!(policy.contains(&expected), "set this in CONTENT_SECURITY_POLICY: {expected}");
    }
}

#[tokio::test]
async fn a_page_is_one_file_that_fetches_nothing() {
    let app = TestApp::default();
    let problems = Problem::examples().map(|example| format!("/problems/{}", example.entry().slug));
    for path in problems.iter().map(String::as_str).chain(["/", "/problems/", "/problems"]) {
        let page = app.get(path).await;
        for foreign in [" src=", "url(", "@import", "http://", "https://", " style=\"", " onclick=", "=\"/"] {
            assert!(!text(&page).contains(foreign), "{foreign} on {path}");
        }
    }
}
