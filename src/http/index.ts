/** Routes for Effect's HttpRouter. */
export { healthRoutes } from "./healthRoutes.ts"
