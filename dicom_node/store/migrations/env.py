"""Alembic's entry: runs migrations over the engine that ``migrate`` hands in."""

from alembic import context

from dicom_node.store.tables import metadata

engine = context.config.attributes["engine"]
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
