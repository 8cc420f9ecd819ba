// node read.mjs JOBS.json: what OHIF's readers make of objects, each upon the series that it lies on.
//
// JOBS: [{ kind: "PM" | "SEG", object: file, series: [files of its planes, in the order of the volume],
// out: file }]. Prints one line of JSON for each: { error } in the reader's words, or { layers } after
// writing to `out` the values in the order of `series`: float32 of a map; uint8 segment numbers of the
// layers of a segmentation (more than one where segments overlap).
import fs from 'node:fs';
import { data as dicom } from 'dcmjs';
import { imageLoader } from '@cornerstonejs/core';
import { generateToolState } from '@cornerstonejs/adapters/cornerstone3D/ParametricMap/generateToolState';
import { createFromDICOMSegBuffer } from '@cornerstonejs/adapters/cornerstone3D/Segmentation/generateToolState';

const { DicomMessage, DicomMetaDictionary } = dicom;

console.log = console.warn = (...words) => process.stderr.write(`${words.join(' ')}\n`);

function bytes(file) {
  const read = fs.readFileSync(file);
  return read.buffer.slice(read.byteOffset, read.byteOffset + read.byteLength);
}

function instance(file) {
  const options = { untilTag: '7FE00010', includeUntilTagValue: false };
  return DicomMetaDictionary.naturalizeDataset(DicomMessage.readFile(bytes(file), options).dict);
}

// The modules that OHIF's metadata provider answers with, from the data set of each plane.
function metadata(instances) {
  return {
    get(module, imageId) {
      const d = instances.get(imageId);
      if (!d) return undefined;
      const iop = d.ImageOrientationPatient.map(Number);
      const modules = {
        instance: d,
        generalImageModule: { sopInstanceUID: d.SOPInstanceUID },
        generalSeriesModule: { seriesInstanceUID: d.SeriesInstanceUID, modality: d.Modality },
        imagePlaneModule: {
          rows: d.Rows,
          columns: d.Columns,
          rowCosines: iop.slice(0, 3),
          columnCosines: iop.slice(3),
          imageOrientationPatient: iop,
          imagePositionPatient: d.ImagePositionPatient.map(Number),
          pixelSpacing: d.PixelSpacing.map(Number),
          frameOfReferenceUID: d.FrameOfReferenceUID,
        },
      };
      return modules[module];
    },
  };
}

async function read({ kind, object, series, out }) {
  const ids = series.map((_, i) => `plane:${i}`);
  const instances = new Map(series.map((file, i) => [ids[i], instance(file)]));
  const metadataProvider = metadata(instances);
  imageLoader.image = (id) => ({ rows: instances.get(id).Rows, columns: instances.get(id).Columns });
  if (kind === 'PM') {
    const { pixelData } = await generateToolState(ids, bytes(object), metadataProvider);
    fs.writeFileSync(out, new Uint8Array(Float32Array.from(pixelData).buffer));
    return { layers: 1 };
  }
  const found = await createFromDICOMSegBuffer(ids, bytes(object), { metadataProvider, tolerance: 1e-3 });
  const layers = found.labelMapImages;
  fs.writeFileSync(out, Buffer.concat(layers.flat().map((image) => Buffer.from(image.getPixelData()))));
  return { layers: layers.length };
}

for (const job of JSON.parse(fs.readFileSync(process.argv[2], 'utf8'))) {
  const answer = await read(job).catch((problem) => ({ error: String(problem.message ?? problem) }));
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
