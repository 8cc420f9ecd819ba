// node view.mjs JOB.json: show a study in OHIF, in a real browser, and take pictures.
//
// JOB: { chromium, url, series, scenes: [{ name, series, overlay?, instance? }], folder, limit_ms, settle_ms }.
// `series` of the job: how many the study has; of a scene, and `overlay`: Series Instance UID; `instance`: the
// SOP Instance UID of the plane to show. Prints JSON: { displaySets, scenes: [{ name, file, viewport, voxels,
// problem }], errors }. A scene's `viewport` is the rectangle of its picture that shows the image; `voxels`
// counts those of each segment by the SOP Instance UID of their plane.
import fs from 'node:fs';
import { chromium } from 'playwright-core';

const job = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const browser = await chromium.launch({
  executablePath: job.chromium,
  headless: true,
  args: [
    '--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--use-angle=swiftshader', '--enable-unsafe-swiftshader',
    '--ignore-gpu-blocklist', '--disable-dev-shm-usage',
  ],
});
const page = await browser.newPage({ viewport: { width: 1200, height: 800 } });
const errors = [];
page.on('pageerror', (problem) => errors.push(String(problem).slice(0, 300)));
page.on('console', (said) => said.type() === 'error' && errors.push(said.text().slice(0, 300)));
const known = () => page.evaluate(() => window.services.displaySetService.getActiveDisplaySets().map((d) => ({
  uid: d.displaySetInstanceUID, series: d.SeriesInstanceUID, modality: d.Modality,
  description: d.SeriesDescription, images: d.numImageFrames, handler: d.SOPClassHandlerId,
  unsupported: Boolean(d.unsupported), messages: (d.messages?.messages ?? []).map((m) => m.id),
})));

// No tour for newcomers over the pictures.
await page.addInitScript(() => localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour'])));
await page.goto(job.url, { waitUntil: 'domcontentloaded' });
await page.waitForFunction(
  () => window.services?.displaySetService?.getActiveDisplaySets?.().length > 0
    && window.cornerstone?.getRenderingEngines?.().some((e) => e.getViewports().length > 0),
  null, { timeout: job.limit_ms });
await page.waitForFunction(
  (n) => window.services.displaySetService.getActiveDisplaySets().length >= n, job.series,
  { timeout: job.limit_ms });
const displaySets = await known();
const uidOf = (series) => displaySets.find((d) => d.series === series)?.uid;

async function show(scene) {
  const uid = uidOf(scene.series);
  if (!uid) return { name: scene.name, problem: 'the viewer has no display set of this series' };
  const viewportId = await page.evaluate(async (displaySet) => {
    const { viewportGridService, displaySetService } = window.services;
    const id = viewportGridService.getActiveViewportId();
    // A viewport stays a volume once a scene made it one; maps choose for themselves.
    const choosesItself = ['PMAP', 'SR'].includes(displaySetService.getDisplaySetByUID(displaySet).Modality);
    await viewportGridService.setDisplaySetsForViewport({
      viewportId: id,
      displaySetInstanceUIDs: [displaySet],
      ...(choosesItself ? {} : { viewportOptions: { viewportType: 'stack', viewportId: id } }),
    });
    return id;
  }, uid);
  await page.waitForTimeout(job.settle_ms);
  let problem = null;
  if (scene.overlay) {
    problem = await page.evaluate(async ([overlay, id]) => {
      const { displaySetService } = window.services;
      const displaySet = displaySetService.getDisplaySetByUID(overlay);
      try {
        await displaySet.load?.({ headers: {} });
        await window.commandsManager.runCommand('hydrateSecondaryDisplaySet', { displaySet, viewportId: id });
        return null;
      } catch (e) {
        return String(e.message ?? e);
      }
    }, [uidOf(scene.overlay), viewportId]);
    await page.waitForTimeout(job.settle_ms);
  }
  if (scene.overlay && !problem) {
    // It is laid over the series that it refers to first; here over the scene's own.
    await page.evaluate(async ([displaySet, id]) => {
      const { viewportGridService, segmentationService } = window.services;
      await viewportGridService.setDisplaySetsForViewport({
        viewportId: id,
        displaySetInstanceUIDs: [displaySet],
        viewportOptions: { viewportType: 'volume', orientation: 'acquisition', viewportId: id },
      });
      await new Promise((done) => setTimeout(done, 1000));
      for (const { segmentationId } of segmentationService.getSegmentations()) {
        if (!segmentationService.getSegmentationRepresentations(id, { segmentationId }).length) {
          await segmentationService.addSegmentationRepresentation(id, { segmentationId });
        }
      }
    }, [uid, viewportId]);
    await page.waitForTimeout(job.settle_ms);
  }
  if (scene.instance) {
    await page.evaluate(([id, sop]) => {
      const viewport = window.services.cornerstoneViewportService.getCornerstoneViewport(id);
      const ids = viewport.getImageIds();
      const imageIndex = ids.findIndex((i) => window.cornerstone.metaData.get('instance', i).SOPInstanceUID === sop);
      if (viewport.type === 'stack') return viewport.setImageIdIndex(imageIndex);
      // A volume counts its slices along the camera, not along the series: go to the place.
      return viewport.jumpToWorld(window.cornerstone.metaData.get('imagePlaneModule', ids[imageIndex]).imagePositionPatient);
    }, [viewportId, scene.instance]);
    await page.waitForTimeout(job.settle_ms);
  }
  const state = await page.evaluate((id) => {
    const viewport = window.services.cornerstoneViewportService.getCornerstoneViewport(id);
    const canvas = document.querySelector(`[data-viewport-uid="${id}"] canvas`) ?? viewport?.canvas;
    const { x, y, width, height } = (canvas ?? document.body).getBoundingClientRect();
    const voxels = {};
    for (const segmentation of window.services.segmentationService.getSegmentations()) {
      const { imageIds } = segmentation.representationData.Labelmap;
      for (const imageId of imageIds ?? []) {
        const image = window.cornerstone.cache.getImage(imageId);
        const plane = window.cornerstone.metaData.get('instance', image.referencedImageId).SOPInstanceUID;
        for (const value of image.voxelManager.getScalarData()) {
          if (!value) continue;
          const label = segmentation.segments[value]?.label ?? String(value);
          voxels[label] ??= {};
          voxels[label][plane] = (voxels[label][plane] ?? 0) + 1;
        }
      }
    }
    return {
      viewport: { x, y, width, height }, type: viewport?.type, voxels,
      focus: viewport?.getCamera?.().focalPoint,
    };
  }, viewportId);
  const file = `${job.folder}/${scene.name}.png`;
  await page.screenshot({ path: file });
  return { name: scene.name, file, problem, ...state };
}

// A document: opened as a reader would, by its entry in the list.
async function open(scene) {
  const { description } = displaySets.find((d) => d.series === scene.series);
  await page.getByText(description, { exact: true }).first().dblclick();
  await page.waitForTimeout(2 * job.settle_ms);
  const file = `${job.folder}/${scene.name}.png`;
  await page.screenshot({ path: file });
  const wrong = await page.getByText('Something went wrong').count();
  return { name: scene.name, file, problem: wrong ? 'the viewer says that something went wrong' : null };
}

const scenes = [];
for (const scene of job.scenes) {
  scenes.push(await (scene.open ? open : show)(scene).catch((problem) => ({ name: scene.name, problem: String(problem.message ?? problem) })));
}
await page.screenshot({ path: `${job.folder}/last.png` });
process.stdout.write(JSON.stringify({ displaySets, scenes, errors: [...new Set(errors)].slice(0, 20) }));
await browser.close();
