//! Records which commit the harness was built from, so that a published run can say it. Without git, or outside a
//! checkout, the build goes on and the run says that the commit is not known.

use std::path::Path;
use std::process::Command;

fn main() {
    // Only what exists: cargo takes a missing path for one that changes every time.
    for path in ["build.rs", "src", "../.git/HEAD", "../.git/index", "../.git/logs/HEAD"] {
        if Path::new(path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let described = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]).output();
    let commit = described.ok().filter(|output| output.status.success());
    let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    println!("cargo::rustc-env=LOADTEST_COMMIT={}", commit.unwrap_or_default());
    println!("cargo::rustc-env=LOADTEST_PROFILE={}", std::env::var("PROFILE").unwrap_or_default());
}
