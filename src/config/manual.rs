//! The manual page, and what makes shells complete the command: made from the command line as clap knows it, so that neither
//! can say anything else than the server does.

use clap_complete::Shell;

use super::cli;

/// A script that makes `shell` complete `fanfare`.
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::command(), "fanfare", &mut script);
    text(script)
}

/// The manual page, for `man -l`.
pub fn manual() -> String {
    let mut page = Vec::new();
    clap_mangen::Man::new(cli::command()).render(&mut page).expect("a Vec takes everything");
    text(page)
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("what is described in UTF-8 is written in UTF-8")
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_option_and_task_is_in_the_manual_and_in_the_completions_of_every_shell() {
        let command = cli::command();
        let options: Vec<_> = command.get_arguments().filter_map(|argument| argument.get_long()).collect();
        let tasks: Vec<_> = command.get_subcommands().map(|task| task.get_name()).collect();
        assert!(options.len() > 20 && tasks.len() >= 5, "{options:?} {tasks:?}");
        // Roff writes a hyphen that is one as \\-.
        let manual = manual().replace("\\-", "-");
        for part in options
            .iter()
            .map(|option| format!("--{option}"))
            .chain(tasks.iter().map(|task| format!("fanfare-{task}")))
        {
            assert!(manual.contains(&part), "{part} is missing in\n{manual}");
        }
        for shell in Shell::value_variants() {
            let script = completions(*shell);
            for part in options.iter().chain(&tasks) {
                assert!(script.contains(part), "{part} is missing for {shell}");
            }
        }
    }
}
