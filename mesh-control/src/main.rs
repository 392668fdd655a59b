//! The control plane in one process: watches, compiles, serves configuration, signs certificates, writes status. Never in
//! the path of a request.
//!
//! Data travels `watch → index → (mesh-compile) → publish → serve`: a source delivers objects, the index keeps them and
//! asks the compiler for what a change touches, published resources are encoded once and shared, and a stream per proxy
//! sends what that proxy subscribes to. Beside it are `ca` (certificates), `authn` (who calls), `status` and `admin`
//! (what people ask). `app.rs` puts it together.

mod admin;
mod app;
mod args;
mod authn;
mod ca;
mod index;
mod metrics;
mod publish;
mod serve;
mod status;
#[cfg(test)]
mod testing;
mod watch;

use clap::Parser as _;

fn main() -> anyhow::Result<()> {
    let args = args::Args::parse();
    app::log(&args.log_level)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let app = app::App::start(args).await?;
        tracing::info!(listen = %app.listen, monitoring = %app.monitoring, control_api = %app.control_api, "started");
        app.run().await
    })
}
