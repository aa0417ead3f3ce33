//! `cargo xtask kernel`: kernels with the drop-in.
//!
//! Puts the drop-in of `kernel/` into a tree, proves that it covers the tree's accessors, and builds and caches kernels
//! for the tests. Booting them is `lazymmu-vm`'s matter.

mod accessors;
mod apply;
mod build;
mod config;
mod debuginfo;
mod dropin;
mod hazards;
mod scan;
mod sections;
mod source;
mod store;
mod tree;
mod variant;

use std::path::PathBuf;

use anyhow::Result;

pub(crate) use sections::Section;
pub(crate) use source::Series;
pub(crate) use store::BuiltKernel;
pub(crate) use variant::Variant;

use accessors::Table;
use dropin::Dropin;
use store::Store;
use tree::Tree;

/// Build kernels with the drop-in, or put it into a tree.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Build a kernel with the drop-in; the last line says in which directory of the cache it is
    Build(BuildArgs),
    /// Put the drop-in into a kernel tree, or bring the one that is there up to date
    Apply {
        /// The root of the tree
        tree: PathBuf,
    },
    /// List the functions of a kernel that open or pause a lazy section on x86
    Sections {
        /// The kernel series
        #[arg(long, value_enum, default_value_t = Series::V7)]
        series: Series,
    },
    /// Check that the drop-in fits a tree and wraps each of its accessors, without changing anything
    Check {
        /// The root of the tree
        tree: PathBuf,
    },
}

/// What `cargo xtask kernel build` takes.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["series", "tree"])))]
pub(crate) struct BuildArgs {
    /// Fetch the source of this series as a Debian package
    #[arg(long, value_enum)]
    series: Option<Series>,
    /// Build this tree, which gets the drop-in
    #[arg(long, value_name = "DIR")]
    tree: Option<PathBuf>,
    /// Which kernel of it
    #[arg(long, value_enum, default_value_t)]
    variant: Variant,
    /// Put kernel/hazards into this tree's kernel, as those of a series have it: it commits hazards on demand
    #[arg(long, requires = "tree")]
    hazards: bool,
    /// Look for a newer source package instead of the one taken the last time
    #[arg(long, requires = "series")]
    refresh: bool,
    /// How many compilers to run at a time [default: one per CPU]
    #[arg(long, short)]
    jobs: Option<usize>,
}

/// Runs a subcommand.
pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Build(args) => {
            let store = Store::open()?;
            let jobs = args.jobs.unwrap_or_else(cpus);
            let options = build::Options { jobs, refresh: args.refresh, hazards: args.hazards };
            let built = match (args.series, args.tree) {
                (Some(series), _) => build::series(&store, series, args.variant, options)?,
                (None, Some(tree)) => build::tree(&store, &tree, args.variant, options)?,
                (None, None) => anyhow::bail!("failed to build: neither --series nor --tree was given"),
            };
            eprintln!("{} from {}, build id {}", built.info.release, built.info.source, built.info.build_id);
            println!("{}", built.directory.display());
        }
        Command::Apply { tree } => {
            let tree = Tree::open(&tree)?;
            let changed = apply::apply(&tree, &Dropin::load()?)?;
            if changed.is_empty() {
                println!("nothing to change in {}", tree.root.display());
            }
            for path in changed {
                println!("changed {path}");
            }
        }
        Command::Sections { series } => {
            for section in sections(series)? {
                println!("{section}");
            }
        }
        Command::Check { tree } => {
            let tree = Tree::open(&tree)?;
            let dropin = Dropin::load()?;
            let pending = apply::plan(&tree, &dropin)?;
            let wrapped = Table::load(&dropin)?.names().len();
            println!(
                "Linux {}: each accessor is wrapped or exempt ({wrapped} wrappers); {} files to change",
                tree.version,
                pending.len()
            );
        }
    }
    Ok(())
}

/// A kernel of a series, from the cache, or built now.
pub(crate) fn ensure(series: Series, variant: Variant) -> Result<BuiltKernel> {
    let options = build::Options { jobs: cpus(), refresh: false, hazards: false };
    build::series(&Store::open()?, series, variant, options)
}

/// The functions of a series' kernel that open or pause a section.
pub(crate) fn sections(series: Series) -> Result<Vec<Section>> {
    let store = Store::open()?;
    let package = source::resolve(&store, series, false)?;
    sections::find(&Tree::open(&source::ensure(&store, series, &package)?)?)
}

/// The source of a series, if a kernel of it was built here.
pub(crate) fn source_in_cache(series: Series) -> Option<PathBuf> {
    source::in_cache(&Store::open().ok()?, series)
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
