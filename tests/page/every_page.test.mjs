// Every page is there for whoever may look, can be used by anybody, and runs nothing that a header brought.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { accessible, as, browser, picture, site, well } from './browser.mjs';

after(() => browser.close());

test('signing in: a wrong password is told so, the right one leads to where one wanted to go', async () => {
  const page = await as(null, { baseURL: site.url });
  await page.goto(`/studies/${site.cases.real}`);
  await accessible(page, 'sign in');
  await page.getByLabel('Name').fill('viewer');
  await page.getByLabel('Password').fill('a wrong password');
  await page.keyboard.press('Enter');
  await page.getByRole('alert').getByText('do not belong together').waitFor();
  await page.getByLabel('Name').fill('viewer');
  await page.getByLabel('Password').fill(site.password);
  await page.keyboard.press('Enter');
  await page.waitForURL(`/studies/${site.cases.real}`);
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.waitForURL('/login');
  await page.goto('/');
  assert.match(page.url(), /\/login/);
  well(page, 'sign in');
});

test('a person changes their own password, and is told what is wrong until it is right', async () => {
  const page = await as('Roe'), elsewhere = await as('Roe');
  await page.getByRole('link', { name: 'Password' }).click();
  const change = async (old, again) => {
    await page.getByLabel('Old password').fill(old);
    await page.getByLabel('New password').fill('another long password');
    await page.getByLabel('The same again').fill(again);
    await page.keyboard.press('Enter');
  };
  await change('a wrong password', 'another long password');
  await page.getByRole('alert').getByText('not your password').waitFor();
  await accessible(page, 'password refused');
  await change(site.password, 'another long password');
  await page.getByText('Your password is changed').waitFor();
  await accessible(page, 'password changed');
  await page.getByRole('link', { name: 'To the queue' }).click();
  await page.getByRole('heading', { level: 1 }).waitFor();
  await elsewhere.goto('/system');
  assert.match(elsewhere.url(), /\/login/);
  well(page, 'password');
});

for (const role of ['viewer', 'operator', 'admin']) {
  test(`every page as ${role}`, async () => {
    const page = await as(role);
    for (const [name, address] of Object.entries(site.pages)) {
      const answer = await page.goto(address);
      assert.equal(answer.status(), name === 'not there' ? 404 : 200, name);
      assert.match(await page.title(), /mrsi-sr-node$/);
      if (role === 'operator') await accessible(page, `${name} ${role}`);
      const acts = await page.locator('main a[href*="/act/"], main a[href*="/deliveries/"]').count();
      if (role === 'viewer') assert.equal(acts, 0, `${name}: a viewer is shown acts`);
    }
    assert.ok((await page.content()).includes(role));
    well(page, role);
  });
}

test('a header\'s markup is text, wherever it is shown', async () => {
  const page = await as('operator');
  for (const address of Object.values(site.pages)) {
    await page.goto(address);
    assert.equal(await page.locator('script:not([src]), img[onerror], img[src="x"]').count(), 0, address);
  }
  await page.goto(`/studies/${site.cases.real}`);
  await page.getByRole('heading', { level: 1 }).getByText('<script>alert(1)</script>, Eve').waitFor();
  await page.goto(`/?q=${encodeURIComponent('"><script>alert(3)</script>')}`);
  assert.equal(await page.getByRole('searchbox').inputValue(), '"><script>alert(3)</script>');
  well(page, 'markup');
});

test('a study shows why each series was taken for what it is, how good the maps are, and what happened', async () => {
  const page = await as('viewer');
  await page.goto(`/studies/${site.cases.real}`);
  const region = (name) => page.getByRole('region', { name, exact: true });
  const row = (name, text) => region(name).getByRole('row', { name: text });
  await row('Series', /^LCM tNAA conc metabolite map tNAA map, named by its series description 6 2\.25\./).waitFor();
  await row('Series', /^T2 FLAIR SPACE dark-fluid flair FLAIR by its name 22 /).waitFor();
  await row('Quality by map', /^tNAA 0\.0 % \d\.\d+ ± \d/).waitFor();
  await page.getByText('T1 lies where its header says.').waitFor();
  await row('Deliveries', /^research results Delivered 49 /).waitFor();
  await row('History', /encoded Resolving Delivering/).waitFor();
  well(page, 'study');
});

test('by keyboard alone: skip to the content, find a study, open it', async () => {
  const page = await as('viewer');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'main');
  await page.keyboard.press('Tab');
  await page.keyboard.type('undelivered');
  await page.keyboard.press('Enter');
  await page.waitForURL(/q=undelivered/);
  assert.equal(await page.locator('tbody tr').count(), 1);
  const link = page.locator('tbody th a');
  for (let n = 0; n < 40 && !(await link.evaluate((a) => a === document.activeElement)); n++) await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.waitForURL(`/studies/${site.cases.undelivered}`);
  well(page, 'keyboard');
});

test('light and dark: the system\'s colours, until a person chooses', async () => {
  const page = await as(null, { colorScheme: 'dark' });
  await page.goto('/');
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await ground();
  await page.getByRole('button', { name: 'Light' }).click();
  const light = await ground();
  assert.notEqual(light, dark);
  await page.reload();
  assert.equal(await ground(), light, 'kept');
  await page.getByRole('button', { name: 'Dark' }).click();
  assert.equal(await ground(), dark);
  well(page, 'colours');
});

test('on a narrow screen nothing is lost beside it', async () => {
  const page = await as('operator', { viewport: { width: 380, height: 800 } });
  for (const name of ['queue', 'study']) {
    await page.goto(site.pages[name]);
    const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wider <= 0, `${name} is ${wider} px wider than the screen`);
    await picture(page, `${name} narrow`);
  }
  well(page, 'narrow');
});
