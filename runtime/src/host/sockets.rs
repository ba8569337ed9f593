//! `sockets`: a stub. Interpreters import wasi:sockets without using it; whoever uses it is denied.

use wasmtime::component::{
    Component, Linker, LinkerInstance, Resource, ResourceAny, ResourceType, Type, Val,
    types::{ComponentItem, ResultType},
};

/// The host type of every resource of wasi:sockets. None but a powerless `network` is ever made.
struct Denied;

/// Defines every function of wasi:sockets that `component` imports: it answers `access-denied`.
pub fn deny<T: Send + 'static>(linker: &mut Linker<T>, component: &Component) -> wasmtime::Result<()> {
    let engine = component.engine();
    for (name, import) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(interface) = import.ty else { continue };
        if !name.starts_with("wasi:sockets/") {
            continue;
        }
        let mut instance = linker.instance(name)?;
        for (name, export) in interface.exports(engine) {
            match export.ty {
                ComponentItem::ComponentFunc(_) => deny_call(&mut instance, name)?,
                // Names that are only used here, such as `pollable`, are defined by their own interface.
                ComponentItem::Resource(_) if is_own(name) => {
                    instance.resource(name, ResourceType::host::<Denied>(), |_, _| Ok(()))?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn is_own(resource: &str) -> bool {
    !matches!(resource, "pollable" | "input-stream" | "output-stream" | "error")
}

fn deny_call<T: Send + 'static>(instance: &mut LinkerInstance<'_, T>, name: &str) -> wasmtime::Result<()> {
    instance.func_new_async(name, |mut store, ty, params, results| {
        Box::new(async move {
            // Handles that came with the call are ours to give back.
            for param in params {
                if let Val::Resource(handle) = param {
                    handle.resource_drop_async(&mut store).await?;
                }
            }
            let Some((result, kind)) = results.first_mut().zip(ty.results().next()) else {
                wasmtime::bail!("sockets are denied");
            };
            *result = match kind {
                Type::Result(kind) if can_be_access_denied(&kind) => {
                    Val::Result(Err(Some(Box::new(Val::Enum("access-denied".into())))))
                }
                // `instance-network` cannot fail: the network that it returns is good for nothing.
                Type::Own(_) => Val::Resource(ResourceAny::try_from_resource(Resource::<Denied>::new_own(0), store)?),
                _ => wasmtime::bail!("sockets are denied"),
            };
            Ok(())
        })
    })
}

fn can_be_access_denied(result: &ResultType) -> bool {
    matches!(result.err(), Some(Type::Enum(codes)) if codes.names().any(|name| name == "access-denied"))
}
