// Runs workflows on the real engine, or reads the results of those that ran: `run` or `read`.
// node workflows.js run|read HOST PORT DATABASE COUNT EXPIRE_SECONDS; prints the results as JSON.
const { MeshFlow } = require('@hotmeshio/hotmesh');
const { Client } = require('pg');

const taskQueue = 'library';
const workflowName = 'lend';
const [mode, host, port, database, count, expire] = process.argv.slice(2);

async function lend(title) {
  return { lent: title };
}
Object.defineProperty(lend, 'name', { value: workflowName });

async function main() {
  const connection = { class: Client, options: { host, port: Number(port), user: 'postgres', database } };
  if (mode === 'run') {
    await MeshFlow.Worker.create({ connection, taskQueue, workflow: lend });
  }
  const { workflow } = new MeshFlow.Client({ connection });
  const results = [];
  for (let i = 0; i < Number(count); i++) {
    const workflowId = `loan-${expire}-${i}`;
    const handle = mode === 'run'
      ? await workflow.start({ args: [`title ${i}`], taskQueue, workflowName, workflowId, expire: Number(expire) })
      : await workflow.getHandle(taskQueue, workflowName, workflowId);
    results.push(await handle.result());
  }
  // The engine logs to the standard output as well: the results are the last line.
  process.stdout.write(`\n${JSON.stringify(results)}\n`, () => process.exit(0));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
