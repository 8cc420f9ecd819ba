// What every test in the browser shares: who is signed in, what has gone wrong, and what axe says of a page.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { chromium } from 'playwright-core';

export const site = JSON.parse(process.env.PAGE);
const axe = fs.readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export const browser = await chromium.launch({
  executablePath: site.chromium,
  args: ['--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-sync',
    '--disable-component-update', '--disable-dev-shm-usage',
    ...(site.webgl ? ['--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--ignore-gpu-blocklist'] : ['--disable-gpu'])],
});

/** A page of its own, signed in as `role`, or on the page without login if there is none. `problems` fills up. */
export async function as(role, options = {}) {
  const context = await browser.newContext({
    baseURL: role ? site.url : site.open_url, viewport: { width: 1280, height: 860 }, ...options,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.problems = [];
  page.on('pageerror', (problem) => page.problems.push(String(problem)));
  page.on('dialog', (dialog) => { page.problems.push(`a script of a patient ran: ${dialog.message()}`); dialog.dismiss(); });
  page.on('console', (said) => {
    // A browser reports an answer of 404 or 403 as an error of the console: that is what was asked for.
    if (said.type() === 'error' && !/status of (403|404|409|422)/.test(said.text())) page.problems.push(said.text());
  });
  if (role) {
    await page.goto('/login');
    await page.getByLabel('Name').fill(role);
    await page.getByLabel('Password').fill(site.password);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.waitForURL('/');
  }
  return page;
}

/** No violation that axe calls serious or critical: of any rule in light, of contrast in dark. */
export async function accessible(page, name) {
  for (const [colorScheme, rules] of [['light', {}], ['dark', { runOnly: ['color-contrast'] }]]) {
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    const asked = JSON.stringify({ resultTypes: ['violations'], ...rules });
    const found = await page.evaluate(`window.axe || (() => { ${axe} })(); axe.run(document, ${asked})`);
    const grave = found.violations.filter((v) => ['serious', 'critical'].includes(v.impact))
      .map((v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.html).slice(0, 3).join(' ')}`);
    assert.deepEqual(grave, [], `${name}, ${colorScheme}`);
    await picture(page, `${name} ${colorScheme}`);
  }
  await page.emulateMedia({ colorScheme: null });
}

export async function picture(page, name) {
  if (!site.pictures) return;
  fs.mkdirSync(site.pictures, { recursive: true });
  await page.screenshot({ path: path.join(site.pictures, `${name.replaceAll(' ', '-')}.png`), fullPage: true });
}

/** Nothing has gone wrong on `page` until now. */
export function well(page, name) {
  assert.deepEqual(page.problems, [], name);
}
