// What the readers need of @cornerstonejs/tools, and no more.
export const utilities = { throttle: (f) => f, contours: {} };
export const annotation = { state: {} };
