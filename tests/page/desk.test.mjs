// Destinations, rules and the system: what each role may do there, and that anybody can.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { accessible, as, browser, site, well } from './browser.mjs';

after(() => browser.close());

test('an operator echoes a destination, holds it with a reason and lets it go', async () => {
  const page = await as('operator');
  await page.goto('/destinations');
  const card = page.locator('section.card', { has: page.getByRole('heading', { name: 'PACS' }) });
  await card.getByRole('button', { name: 'Echo' }).click();
  await card.getByText(/Echo by operator/).waitFor();
  await card.locator('p.problem[role=status]').waitFor({ timeout: 60_000 });
  for (const [verb, button, chip] of [['Hold', 'Let nothing go there', 'Held'], ['Release', 'Let deliveries go there again', 'As usual']]) {
    await card.getByText(`${verb}…`).click();
    if (verb === 'Hold') await accessible(page, 'destinations with a form');
    await card.getByLabel('Reason').fill('migration <b>');
    await card.getByRole('button', { name: button }).click();
    await card.getByRole('heading').getByText(chip).waitFor();
  }
  for (const name of ['Quarantine', 'What persons did']) {
    await page.goto('/system');
    await page.getByRole('link', { name }).click();
    await page.getByRole('heading', { name, level: 1 }).waitFor();
    await accessible(page, name);
  }
  await page.getByText('released by operator: migration <b>').first().waitFor();
  well(page, 'destinations');
});

test('a viewer sees destinations, rules and the system, and acts on none', async () => {
  const page = await as('viewer');
  for (const address of ['/destinations', '/rules', '/system']) {
    await page.goto(address);
    assert.equal(await page.locator('main form, main a.button').count(), 0, address);
  }
  for (const address of ['/system/audit', '/system/quarantine', '/system/sign-ins']) {
    assert.equal((await page.goto(address)).status(), 403);
  }
  well(page, 'viewer');
});

test('an admin drops a file, and tries other rules on what came lately; and sees who signed in', async () => {
  const page = await as('admin');
  await page.goto('/system');
  await page.getByRole('link', { name: 'Sign-ins' }).click();
  await page.getByRole('row', { name: 'admin signed in' }).first().waitFor();
  await accessible(page, 'sign-ins');
  await page.goto('/rules');
  await page.getByLabel('DICOM files').setInputFiles(site.dropped);
  await page.getByRole('button', { name: 'Judge' }).click();
  await page.locator('#judged').getByText('metabolite map').waitFor();
  const form = page.locator('form[action="/rules/backtest"]');
  await form.getByLabel('Rules').fill('[[sites]]\nmaps = "(?i)^lcm (?P<met>tNAA)"\nalias = { tNAA = "NAA" }\n');
  await form.getByRole('button', { name: 'Try' }).click();
  await page.locator('#found').getByText('would be taken for something else').waitFor();
  await page.locator('#changes').getByText('LCM tNAA conc').first().waitFor();
  await accessible(page, 'rules tried');
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Download' }).click()]);
  assert.equal(download.suggestedFilename(), 'identify.toml');
  well(page, 'rules');
});
