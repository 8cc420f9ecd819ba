// Every act of an operator, by the page's own links and forms, and what an open page sees of it.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { accessible, as, browser, site, well } from './browser.mjs';

after(() => browser.close());

const study = (what) => `/studies/${site.cases[what]}`;
const state = (page) => page.locator('h1 .chip').innerText();

/** Through the link and the form, to the study again. */
async function act(page, verb, reason, fill = async () => {}) {
  await page.getByRole('navigation', { name: 'Acts on this study' }).getByRole('link', { name: verb }).click();
  await page.getByRole('heading', { name: `${verb} this study?` }).waitFor();
  await fill(page);
  await page.getByLabel('Reason').fill(reason);
  await page.getByRole('button', { name: verb, exact: true }).click();
  await page.getByRole('heading', { name: 'History' }).waitFor();
}

test('force, hold, release, ignore, retry: each with name and reason in the history', async () => {
  const page = await as('operator');
  await page.goto(study('act'));
  assert.equal(await state(page), 'Receiving');
  const steps = [['Force', 'Queued'], ['Hold', 'Held'], ['Release', 'Queued'], ['Ignore', 'Ignored'], ['Retry', 'Queued']];
  for (const [verb, after] of steps) {
    await act(page, verb, `because of ${verb} <b>`);
    assert.equal(await state(page), after, verb);
  }
  const words = { Force: 'forced', Hold: 'held', Release: 'released', Ignore: 'ignored', Retry: 'retried' };
  for (const [verb] of steps) {
    await page.getByText(`${words[verb]} by operator: because of ${verb} <b>`).first().waitFor();
  }
  well(page, 'acts');
});

test('an act asks for a reason, can be left, and is refused in words where it came too late', async () => {
  const page = await as('operator'), other = await as('operator');
  await page.goto(study('waiting'));
  await page.getByRole('link', { name: 'Hold' }).click();
  await accessible(page, 'act');
  await page.getByRole('button', { name: 'Hold', exact: true }).click();
  assert.ok(await page.getByLabel('Reason').evaluate((input) => !input.validity.valid), 'a reason is asked for');
  await page.getByRole('link', { name: 'Leave it' }).click();
  assert.equal(await state(page), 'Receiving');
  await page.getByRole('link', { name: 'Hold' }).click();
  await page.getByLabel('Reason').fill('too late');
  await other.goto(study('waiting'));
  await act(other, 'Ignore', 'sooner');
  await page.getByRole('button', { name: 'Hold', exact: true }).click();
  await page.getByRole('alert').getByText('the study is IGNORED; hold is possible only while').waitFor();
  await accessible(page, 'refused');
  well(page, 'too late');
});

test('deliveries: release, hold, release, and retry of one that failed', async () => {
  const page = await as('operator');
  const row = (name) => page.locator('tr', { has: page.getByRole('rowheader', { name, exact: true }) }).first();
  const move = async (verb, after) => {
    await row('PACS').getByRole('link', { name: verb }).click();
    await page.getByLabel('Reason').fill('looked at it');
    await page.getByRole('button', { name: verb, exact: true }).click();
    await row('PACS').getByText(after, { exact: true }).waitFor();
  };
  await page.goto(study('real'));
  await row('PACS').getByText('waits for release by a physicist or radiologist').waitFor();
  await move('Release', 'Pending');
  await move('Hold', 'Held');
  await move('Release', 'Pending');
  await page.getByText('released by operator: looked at it').first().waitFor();
  await page.goto(study('undelivered'));
  assert.equal(await state(page), 'Failed');
  await move('Retry', 'Pending');
  assert.equal(await state(page), 'Delivering');
  well(page, 'deliveries');
});

test('withdraw: notes are on their way, and the study says by whom and why', async () => {
  const page = await as('operator');
  await page.goto(study('real'));
  await act(page, 'Withdraw', 'anatomy of another visit', (p) => p.getByLabel('Rejected for patient safety').check());
  await page.getByText('by operator: anatomy of another visit').first().waitFor();
  await page.getByRole('cell', { name: 'note of withdrawal' }).waitFor();
  await page.goto('/');
  await page.locator('.chip', { hasText: 'Withdrawn' }).waitFor();
  well(page, 'withdraw');
});

test('where nobody signs in, the name is asked for once and remembered', async () => {
  const page = await as(null);
  await page.goto(study('live'));
  await act(page, 'Hold', 'no login here', (p) => p.getByLabel('Your name').fill('Dr Roe'));
  await page.getByText('held by Dr Roe: no login here').first().waitFor();
  await page.getByRole('link', { name: 'Release' }).click();
  await page.waitForFunction(() => document.querySelector('input[name="by"]')?.value === 'Dr Roe');
  well(page, 'name');
});

test('an open page follows what happens elsewhere, and keeps the place of whoever reads it', async () => {
  const watcher = await as('viewer'), page = await as('operator');
  const row = watcher.locator('tr', { hasText: 'live "><img' });
  await row.getByText('Held', { exact: true }).waitFor();
  await row.getByRole('link').focus();
  await page.goto(study('live'));
  const began = Date.now();
  await act(page, 'Release', 'go on');
  await row.getByText('Queued', { exact: true }).waitFor();
  const seconds = (Date.now() - began) / 1000;
  assert.ok(seconds < 10, `seen after ${seconds} s`); // two seconds after the act; forms and a busy machine before it
  assert.ok(await row.getByRole('link').evaluate((a) => a === document.activeElement), 'the focus stays');
  well(watcher, 'live');
});

test('what is pressed while the page changes is clicked all the same', async () => {
  const page = await as('operator');
  let changes = 0;
  await page.route('**/live', (route) =>
    route.fulfill({ contentType: 'text/event-stream', body: 'retry: 50\nevent: hello\ndata: {}\n\n' }));
  await page.route(`**${study('live')}`, async (route) => {
    if (!route.request().headers()['x-live']) return route.continue();
    const response = await route.fetch();
    return route.fulfill({ response, body: `${await response.text()}<i hidden>${++changes}</i>` });
  });
  const changed = (since) => page.waitForFunction((n) => Number(document.querySelector('i[hidden]')?.textContent) > n, since);
  await page.goto(study('live'));
  await changed(1);
  const link = await page.evaluate(() => // in one piece: a locator's link may have been exchanged when it is measured
    [...document.querySelectorAll('a')].find((a) => a.textContent.includes('Ignore')).getBoundingClientRect().toJSON());
  await page.mouse.move(link.x + link.width / 2, link.y + link.height / 2);
  await page.mouse.down();
  await page.waitForTimeout(1500); // changes go on
  await page.mouse.up();
  await page.getByRole('heading', { name: 'Ignore this study?' }).waitFor();
  await page.goBack();
  await changed(changes);
  well(page, 'pressed');
});
