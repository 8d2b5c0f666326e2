// bee-queue. Workers move what is due when `activateDelayedJobs` is set, which by default it is not.
const fs = require("fs");
const Queue = require("bee-queue");

const [command, url, name, path] = process.argv.slice(2);
const own = command === "work-own" || command === "move";
const options = { redis: url, activateDelayedJobs: own, removeOnSuccess: true, isWorker: command !== "produce" };

async function produce(queue) {
  const jobs = JSON.parse(fs.readFileSync(path));
  const start = Math.ceil(Date.now() / 1000 + 1.5 + jobs.length / 100);
  for (const { id, due, in: after, value } of jobs) {
    await queue.createJob({ id, value }).setId(id).delayUntil((due ?? start + after) * 1000).save();
  }
  console.log(start);
  await queue.close();
}

function work(queue) {
  const file = fs.openSync(path, "a");
  queue.process(10, async (job) => {
    const line = { id: job.data.id, at: Date.now() / 1000, value: job.data.value };
    fs.writeSync(file, JSON.stringify(line) + "\n");
  });
}

async function move(queue) {
  await queue.ready();
  await queue._activateDelayed();
  setTimeout(() => queue.close(), 500);
}

const queue = new Queue(name, options);
({ produce, work, "work-own": work, move })[command](queue);
