//! `scripts/chaos --prove` breaks copies of the tree with the patches beside this file. That takes too long for the
//! suite; that they still fit does not.

use std::path::Path;

#[test]
fn every_patch_still_fits() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut hunks = 0;
    for patch in std::fs::read_dir(root.join("tests/suite/chaos/prove")).unwrap() {
        let patch = patch.unwrap().path();
        let text = std::fs::read_to_string(&patch).unwrap();
        for file in text.split("--- a/").skip(1) {
            let (path, rest) = file.split_once('\n').unwrap();
            let source = std::fs::read_to_string(root.join(path)).unwrap();
            for hunk in rest.split("\n@@ ").skip(1) {
                let before: Vec<_> = hunk
                    .lines()
                    .skip(1)
                    .filter_map(|line| line.strip_prefix([' ', '-']))
                    .collect();
                let found = source.matches(&before.join("\n")).count();
                assert_eq!(found, 1, "{}: mend the part for {path}", patch.display());
                hunks += 1;
            }
        }
    }
    assert!(hunks >= 6);
}
